"""evit-edge: PyTorch image classifiers to phones, proved to answer like the original.

Importing this package loads neither torch nor a converter; each heavy part is imported by the function
that needs it, and a missing one is answered with the ``pip install`` line that mends it.
"""

__version__ = "0.1.0"
