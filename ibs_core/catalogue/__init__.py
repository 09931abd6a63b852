"""The catalogue: every feature once, in one declarative table.

Kernels, filters, training, live readiness, ``ibs data features`` and ``docs/features.md`` read it. Names:
``bar_`` is the signal timeframe, ``day_`` the last session closed at decision time, ``x_<root>_`` another
instrument, ``cal_`` the calendar. A feature without a value is NaN. `own` holds what an instrument's own
bars give, on both timeframes; `others` what the pair, the calendar and other instruments give.
"""

from ibs_core.catalogue.feature import Feature
from ibs_core.catalogue.listing import load_catalogue, resolve

__all__ = ["Feature", "load_catalogue", "resolve"]
