"""Bars, feature columns and schedules that an earlier run made of the same data, kept as memory-mapped files.

The path: `key` (what decides the bytes, as a name) → `shelf` (the folder: find, put, bound) → `entry` (one file);
`drawer` is the shelf as one reading sees it; `kept_series` says what a reading is as one file.
"""

from ibs_core.bar_cache.drawer import Drawer, drawer_of
from ibs_core.bar_cache.entry import Entry
from ibs_core.bar_cache.kept_series import Reading, read_once, roots_once
from ibs_core.bar_cache.shelf import Held, Shelf, default_shelf

__all__ = [
    "Drawer",
    "Entry",
    "Held",
    "Reading",
    "Shelf",
    "default_shelf",
    "drawer_of",
    "read_once",
    "roots_once",
]
