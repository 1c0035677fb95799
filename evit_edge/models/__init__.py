"""EfficientViT M0 to M5: configurations, the trainable network, its inference form and its checkpoints.

Only :mod:`evit_edge.models.config` is free of torch; import the others where torch is wanted.
"""
