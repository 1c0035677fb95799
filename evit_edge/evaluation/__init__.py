"""Measuring classifiers on labelled photos: accuracy with intervals, pairs compared on the same photos."""
