"""A place for one thing between two threads: the latest wins, so nothing ever queues up."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Slot(Generic[T]):
    """Holds the latest thing put until it is taken."""

    def __init__(self) -> None:
        self._item: T | None = None
        self._changed = threading.Condition()

    def put(self, item: T) -> bool:
        """Lay something down; whether that replaced what nobody had taken."""
        with self._changed:
            replaced = self._item is not None
            self._item = item
            self._changed.notify()
            return replaced

    def take(self, timeout_s: float) -> T | None:
        """Take what lies there, waiting for it; None where nothing came in that time."""
        with self._changed:
            self._changed.wait_for(self._is_full, timeout_s)
            item, self._item = self._item, None
            return item

    def clear(self) -> None:
        """Throw away what lies there."""
        with self._changed:
            self._item = None

    def _is_full(self) -> bool:
        return self._item is not None
