"""The evit-edge app: what a converted model makes of a picture, and how fast.

``session`` is the core and needs no screen; ``view`` and ``controls`` are the screen; ``texts`` is every sentence
on it; ``program`` starts it all. Importing this package imports none of them.
"""
