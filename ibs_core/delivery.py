"""What a sender does next: pure, from the orders, their attempts and the time.

Entries leave at most once, exits at least once. An entry is given up rather than sent late, and never sent again
once it may have arrived; an exit is sent until it is known to have arrived, spaced so that two of them are never
sized on the same position, or a person is called. Everything follows from attempts that are in the journal, so a
sender that was killed goes on where it was.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from ibs_core.outbox import SETTLING_NS, Page
from ibs_core.outcomes import THROTTLE_NS, Breaker
from ibs_core.ports import Move

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ibs_core.outbox import Attempt, Delivery

__all__ = ["Move", "Plan", "Send", "View", "entry_life_ns", "is_behind", "matters", "plan"]

_SECOND: Final = 10**9
_NEVER: Final = 2**62
_NOT_SENT_S: Final = (0.1, 0.25, 0.5, 1.0)
_EXIT_NOT_SENT_S: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 5.0)
_RESEND_S: Final = (10, 20, 40)
_SPACING_NS: Final = 10 * _SECOND
"""Two exits closer than this may both be sized on the position of before."""
_UNREAD_NS: Final = 60 * _SECOND
_CALL_NS: Final = 10 * _SECOND
_MINUTE_NS, _HOUR_NS = 60 * _SECOND, 3600 * _SECOND
_OF_ENTRIES: Final = ((30, _MINUTE_NS), (300, _HOUR_NS))
_OF_ALL: Final = ((60, _MINUTE_NS), (500, _HOUR_NS))


def entry_life_ns(bar_ns: int, longest_ns: int = 10 * _SECOND) -> int:
    """Return how old a decision may be when its entry leaves.

    Parameters
    ----------
    bar_ns : int, nanoseconds
        Of a signal bar.
    longest_ns : int, nanoseconds

    Returns
    -------
    int
    """
    return min(longest_ns, bar_ns // 4)


@dataclass(frozen=True, slots=True)
class View:
    """All that decides what is done next.

    Parameters
    ----------
    now_ns : int, UTC ns
        On the sender's own clock, which never goes back; times of attempts are on it.
    wall_ns : int, UTC ns
        As the machine's clock says now; the age of an entry is the older of the two.
    deliveries : sequence of Delivery
        As they were decided; those of `matters`.
    entries_ns, all_ns : sequence of int, UTC ns
        Starts of the attempts of the last hour, of entries and of everything, ascending.
    breaker : Breaker
    trading : collection of str
        Symbols whose market is open and does not close within moments.
    gate : {"open", "reduce_only", "halted"}
        ``reduce_only``: no entries. ``halted``: nothing leaves.
    life_ns : int, nanoseconds
        See `entry_life_ns`.
    """

    now_ns: int
    wall_ns: int
    deliveries: Sequence[Delivery]
    trading: Collection[str]
    entries_ns: Sequence[int] = ()
    all_ns: Sequence[int] = ()
    breaker: Breaker = field(default=Breaker())
    gate: Literal["open", "reduce_only", "halted"] = "open"
    life_ns: int = 10 * _SECOND


@dataclass(frozen=True, slots=True)
class Send:
    """One order leaves now.

    Parameters
    ----------
    order_id : str
    flattens : bool
        The exit that stands for an entry of unknown outcome, not the entry.
    """

    order_id: str
    flattens: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done next.

    Parameters
    ----------
    moves : tuple of Move
        First.
    pages : tuple of Page
        Then.
    send : Send or None
        At most one: the next is decided when this one is known.
    is_probe : bool
        The route is tried without an order.
    wake_ns : int or None, UTC ns
        When to ask again, if nothing happens before.
    """

    moves: tuple[Move, ...] = ()
    pages: tuple[Page, ...] = ()
    send: Send | None = None
    is_probe: bool = False
    wake_ns: int | None = None


@dataclass(slots=True)
class _Ticker:
    """What the orders of one contract say together; places are in the order of decision."""

    last_exit: tuple[int, str] = (-1, "")
    open_exit: int = _NEVER  # the first that is on its way
    dead_exit: int = _NEVER  # the first that nothing after it has made good
    open_entry: int = _NEVER
    closed_ns: int = -_NEVER  # start of the last attempt of an exit that is done
    closing_ns: int = -_NEVER  # start and end of the last exit that may have arrived
    closing_end_ns: int = -_NEVER
    opening_ns: int = -_NEVER  # start of the last entry that may have arrived

    def take(self, place: int, delivery: Delivery) -> None:
        arrived: list[Attempt] = []
        if delivery.attempts:
            arrived = [each for each in delivery.closing() if each.may_have_arrived]
            self._take_times(arrived, delivery)
        if delivery.is_entry:
            if delivery.is_open:
                self.open_entry = min(self.open_entry, place)
            return
        self.last_exit = (place, delivery.order.order_id)
        if delivery.is_open:
            self.open_exit = min(self.open_exit, place)
        elif delivery.state == "DEAD":
            self.dead_exit = min(self.dead_exit, place)
        else:
            self.dead_exit = _NEVER
            for each in arrived[-1:]:
                self.closed_ns = max(self.closed_ns, each.started_ns)

    def _take_times(self, arrived: Sequence[Attempt], delivery: Delivery) -> None:
        for each in arrived[-1:]:
            self.closing_ns = max(self.closing_ns, each.started_ns)
            self.closing_end_ns = max(self.closing_end_ns, each.last_ns)
        for each in delivery.opening():
            if each.may_have_arrived:
                self.opening_ns = max(self.opening_ns, each.started_ns)


@dataclass(frozen=True, slots=True)
class _Room:
    """When one more attempt fits the budgets: of entries, of everything."""

    entries_ns: int
    all_ns: int


def plan(view: View) -> Plan:
    """Decide what is done next.

    Parameters
    ----------
    view : View

    Returns
    -------
    Plan
    """
    tickers: dict[str, _Ticker] = defaultdict(_Ticker)
    for place, each in enumerate(view.deliveries):
        tickers[each.order.instrument].take(place, each)
    is_unknown = any(each.state == "AMBIGUOUS" for each in view.deliveries)
    room = _Room(_room_ns(view.entries_ns, _OF_ENTRIES), _room_ns(view.all_ns, _OF_ALL))
    moves, pages, wakes = [], [], []
    exits: list[tuple[int, int, Send]] = []
    entries: list[tuple[int, int, Send]] = []
    for place, each in enumerate(view.deliveries):
        if not each.is_open:
            continue
        ticker, order_id = tickers[each.order.instrument], each.order.order_id
        opens = each.is_entry and each.state == "PENDING"
        ending, due_ns = (_opening if opens else _closing)(place, each, ticker, view, room)
        if ending is not None:
            moves.append(Move(order_id, *ending))
            continue
        page, wake_ns = _call(each, view)
        pages += [page] if page else []
        wakes.append(each.stale_ns(view.life_ns) + 1 if opens else wake_ns)
        if due_ns < _NEVER and not (opens and is_unknown):
            send = Send(order_id, flattens=each.is_entry and not opens)
            (entries if opens else exits).append((due_ns, place, send))
    chosen, is_probe, wake_ns = _choose(exits, entries, view)
    wake_ns = min((wake_ns, *wakes))
    return Plan(tuple(moves), tuple(pages), chosen, is_probe, wake_ns if wake_ns < _NEVER else None)


def matters(delivery: Delivery, now_ns: int) -> bool:
    """Tell whether a delivery may still change what is done.

    Parameters
    ----------
    delivery : Delivery
    now_ns : int, UTC ns

    Returns
    -------
    bool
        A dead exit does for ever: no entry of its contract leaves before a person has looked.
    """
    if delivery.is_unsettled:
        return True
    last_ns = delivery.attempts[-1].last_ns if delivery.attempts else -_NEVER
    return now_ns - last_ns < _UNREAD_NS


def is_behind(delivery: Delivery) -> bool:
    """Tell whether nothing is to be done for an exit as long as one before it of its contract is on its way.

    Parameters
    ----------
    delivery : Delivery
        An exit.

    Returns
    -------
    bool
        It was never tried, and a person was called for it already.
    """
    return delivery.state == "PENDING" and not delivery.attempts and bool(delivery.paged)


def _opening(
    place: int, entry: Delivery, ticker: _Ticker, view: View, room: _Room
) -> tuple[tuple[str, str] | None, int]:
    """Return how an entry ends without being sent, or when it may leave."""
    assert not any(each.may_have_arrived for each in entry.attempts), "entries leave at most once"
    stale_ns, (exit_place, exit_id) = entry.stale_ns(view.life_ns), ticker.last_exit
    is_old = view.now_ns > stale_ns or abs(view.wall_ns - entry.order.decided_ns) > view.life_ns
    waits = {
        "the route is in trouble": _again_ns(entry.attempts, _NOT_SENT_S, entry.order.order_id),
        "an exit has just left": ticker.closing_end_ns + SETTLING_NS,
        "the budget of entries": room.entries_ns,
        "the budget of all orders": room.all_ns,
    }
    why, due_ns = max(waits.items(), key=lambda each: each[1])
    endings = (
        (exit_place > place, "SUPERSEDED", f"by {exit_id}"),
        (view.gate != "open", "EXPIRED", "entries are halted"),
        (entry.order.symbol not in view.trading, "EXPIRED", "its market is closed or soon will be"),
        (is_old, "EXPIRED", "too old to be sent"),
        (due_ns > stale_ns, "EXPIRED", f"it would be too old: {why}"),
    )
    for is_so, state, how in endings:
        if is_so:
            return (state, how), _NEVER
    if min(ticker.open_entry, ticker.open_exit, ticker.dead_exit) < place:
        return None, _NEVER  # something happens to that, or this becomes too old
    return None, due_ns


def _closing(
    place: int, delivery: Delivery, ticker: _Ticker, view: View, room: _Room
) -> tuple[tuple[str, str] | None, int]:
    """Return when an exit may leave, or the exit in place of an entry; or that such an entry is closed."""
    if not delivery.is_entry and ticker.open_exit < place:
        return None, _NEVER
    if delivery.is_entry:
        sent_ns = delivery.opening()[-1].started_ns
        if ticker.closed_ns >= sent_ns + SETTLING_NS:
            return ("FLATTENED", "a later exit was accepted"), _NEVER
    if view.gate == "halted":
        return None, _NEVER
    own = delivery.closing()
    due_ns = max(
        _again_ns(own, _EXIT_NOT_SENT_S, delivery.order.order_id),
        room.all_ns,
        ticker.closing_ns + _SPACING_NS,
    )
    if delivery.is_entry:
        is_refused = bool(own) and own[-1].outcome == "REFUSED"
        if is_refused or ticker.open_exit < _NEVER:
            return None, _NEVER  # a person resolves it, or the exit that is on its way does
        due_ns = max(due_ns, sent_ns + _UNREAD_NS)
    unknown = [each for each in own if each.outcome == "AMBIGUOUS"]
    if unknown:
        wait_s = _RESEND_S[min(len(unknown), len(_RESEND_S)) - 1]
        due_ns = max(due_ns, unknown[-1].started_ns + wait_s * _SECOND)
    if own and own[-1].outcome == "ACCEPTED":
        due_ns = max(due_ns, ticker.opening_ns + SETTLING_NS)
    return None, due_ns


def _choose(
    exits: list[tuple[int, int, Send]], entries: list[tuple[int, int, Send]], view: View
) -> tuple[Send | None, bool, int]:
    """Return what leaves, whether the route is tried, and when to ask again."""
    due_ns, _, send = min(exits, default=(_NEVER, 0, None))
    if due_ns <= view.now_ns:  # the longest due first: none waits behind another's retries
        return send, False, view.now_ns
    if not entries:
        return None, False, due_ns
    entry_ns, _, send = min(entries)
    if view.breaker.is_shut:
        entry_ns = max(entry_ns, view.breaker.rests_until_ns)
    if entry_ns > view.now_ns:
        return None, False, min(due_ns, entry_ns)
    return None if view.breaker.is_shut else send, view.breaker.is_shut, view.now_ns


def _call(delivery: Delivery, view: View) -> tuple[Page | None, int]:
    """Call for an exit that is on its way for too long, whatever holds it; and tell when that would be."""
    closing = delivery.closing()
    known = delivery.paged - {"ambiguous"} if delivery.is_entry else delivery.paged
    if known or (delivery.is_entry and not closing):
        return None, _NEVER
    if any(each.outcome == "ACCEPTED" for each in closing):
        return None, _NEVER
    since_ns = closing[0].started_ns if delivery.is_entry else delivery.taken_ns
    if view.now_ns < since_ns + _CALL_NS:
        return None, since_ns + _CALL_NS
    order = delivery.order
    why = "everything is halted" if view.gate == "halted" else "see `ibs orders show`"
    what = "the exit in place of entry" if delivery.is_entry else order.action
    text = f"{what} {order.order_id} of {order.instrument} is not delivered after 10 s: {why}"
    return Page(order.order_id, "undelivered", text), _NEVER


def _again_ns(attempts: Sequence[Attempt], waits_s: Sequence[float], order_id: str) -> int:
    """Return when the last attempt may be followed by another, if it did not get through."""
    if not attempts:
        return -_NEVER
    last, n = attempts[-1], 0
    for each in reversed(attempts):
        if each.outcome != last.outcome:
            break
        n += 1
    if last.outcome == "THROTTLED" and last.response is not None:
        return last.last_ns + (last.response.retry_after_ns or min(n, 3) * THROTTLE_NS)
    if last.outcome != "NOT_SENT":
        return last.last_ns
    jitter = 1 + zlib.crc32(f"{order_id} {n}".encode()) / 2**34  # up to a quarter
    return last.last_ns + int(waits_s[min(n, len(waits_s)) - 1] * jitter * _SECOND)


def _room_ns(starts_ns: Sequence[int], limits: Sequence[tuple[int, int]]) -> int:
    """Return when one more attempt fits every limit."""
    return max(
        (starts_ns[-n] + span_ns for n, span_ns in limits if len(starts_ns) >= n), default=-_NEVER
    )
