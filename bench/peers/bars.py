"""The bars that every engine gets: those of the other benchmarks, also as Polars writes them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import data

__all__ = ["decade", "year"]


def year():
    """Return one symbol's year twice: as Polars writes it, as this project does."""
    path = data.year()
    return data.by_polars(path), path


def decade():
    """Return twelve symbols' ten years in one file, in both forms."""
    path = data.decade()
    return data.by_polars(path), path
