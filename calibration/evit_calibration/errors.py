"""The errors of calibration.

CalibrationError
├── PhotosError         a folder without photos, a sample that cannot be drawn, too many unreadable photos
├── RangesError         activations without a range: not a number, other tensors than before, no photo at all
└── CacheError          a cache file that cannot be read or written, or holds what no calibration wrote
    └── CacheModelError     a cache of another model
"""

from __future__ import annotations


class CalibrationError(Exception):
    """Base of all errors that evit_calibration raises on purpose."""


class PhotosError(CalibrationError):
    """Photos that cannot be used for a calibration."""


class RangesError(CalibrationError):
    """Activations from which no range can be told."""


class CacheError(CalibrationError):
    """A calibration cache that cannot be read, written or trusted."""


class CacheModelError(CacheError):
    """A calibration cache that was made for another model."""
