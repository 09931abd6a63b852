"""The rule of docs/peers.md in plain Python, once for all engines: compiled ones compile what is scalar here."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

CHICAGO = ZoneInfo("America/Chicago")
IBS_ENTRY, IBS_EXIT = 0.2, 0.8
RSI_ENTRY = 40.0
STOP, TARGET = 0.99, 1.01
BARS = 8
FLAT_HOUR = 15  # Chicago; nothing is entered from here to the close an hour later
DIGITS = 9  # prices are decimals: bounds are compared on this grid, not on binary noise
REASONS = ("stop", "target", "ibs", "bars", "flat_by")  # in the order in which they are asked


def ibs(high, low, close):
    """Return where the close lies in the bar's range."""
    return round((close - low) / (high - low), DIGITS) if high > low else 0.5


def averaged(mean, change, n_before):
    """Return Wilder's mean of two after another change."""
    return (mean + change) / 2 if n_before else change


def is_weak(rise, fall, n_changes):
    """Tell whether RSI(2) asks for an entry; without movement it is 50."""
    moved = rise + fall
    return n_changes >= 2 and moved > 0 and 100 * rise / moved <= RSI_ENTRY


def leaves(entry, close, strength, held, is_past_afternoon):
    """Return why a position ends, as an index of `REASONS`; -1 when it stays."""
    if close <= round(entry * STOP, DIGITS):
        return 0
    if close >= round(entry * TARGET, DIGITS):
        return 1
    if strength >= IBS_EXIT:
        return 2
    if held >= BARS:
        return 3
    return 4 if is_past_afternoon else -1


def afternoons(instant):
    """Return the number of the last Chicago afternoon, 15:00, at or before an instant."""
    return (instant.astimezone(CHICAGO) - timedelta(hours=FLAT_HOUR)).toordinal()


class Low:
    """The rule as a state machine, for engines that call back at an hour's end."""

    def __init__(self):
        self.rise = self.fall = 0.0
        self.n_changes, self._last = 0, None
        self.held = 0

    def observe(self, contract, open_, close):
        """Take an hour; the first change of a new contract is measured from its own open."""
        if self._last is not None:
            before = self._last[1] if contract == self._last[0] else open_
            change = round(close - before, DIGITS)
            self.rise = averaged(self.rise, max(change, 0.0), self.n_changes)
            self.fall = averaged(self.fall, max(-change, 0.0), self.n_changes)
            self.n_changes += 1
        self._last = contract, close

    def enters(self, end, high, low, close):
        """Tell whether the hour that ended at `end` asks for an entry."""
        in_time = end.astimezone(CHICAGO).hour not in {FLAT_HOUR, FLAT_HOUR + 1}
        is_low = ibs(high, low, close) <= IBS_ENTRY
        self.held = 0
        return in_time and is_low and is_weak(self.rise, self.fall, self.n_changes)

    def leaves(self, fill, end, high, low, close):
        """Return why a position leaves at an hour's end, None if it stays; `fill` is price and instant."""
        self.held += 1
        price, instant = fill
        is_past = afternoons(end) > afternoons(instant)
        why = leaves(price, close, ibs(high, low, close), self.held, is_past)
        return REASONS[why] if why >= 0 else None
