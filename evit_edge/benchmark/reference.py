"""A loop of fixed work, run between the models' runs: whatever changes its time is the machine."""

from __future__ import annotations

import hashlib

ITERATIONS = 2000
"""Fixed for good, so that reports of different days can be compared: about 0.6 to 1 ms on a 2023 server core."""


def reference_loop() -> None:
    """Hash again and again, in C, in registers and a few hundred bytes.

    It needs no memory worth mentioning, so it leaves the caches to the models; it holds no lock of Python's, and
    takes the same number of instructions every time.
    """
    hashlib.pbkdf2_hmac("sha256", b"evit-edge", b"reference", ITERATIONS)
