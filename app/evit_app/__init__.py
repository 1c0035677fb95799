"""The evit-edge app: classify pictures with a converted model."""
