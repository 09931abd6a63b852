"""What an operator says while a worker runs, or said before it began: done once, then settled in the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ibs_core.errors import IbsError
from ibs_core.notices import Notice
from ibs_core.portfolio import FLATTEN
from ibs_core.positions import FLAT, OPEN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ibs_core.dispatch import Dispatch, Gate
    from ibs_core.journalled import JournalledEngine
    from ibs_core.ports import Clock, Command, Journal

__all__ = ["OperatorCommands"]

_SHUT = "nothing leaves before `ibs resume --yes`"


class OperatorCommands:
    """The commands of one journal.

    Parameters
    ----------
    trading : JournalledEngine
    dispatch : Dispatch
    journal : Journal
    clock : Clock
    publish : callable
        Given a `Notice`.
    """

    def __init__(
        self,
        trading: JournalledEngine,
        dispatch: Dispatch,
        journal: Journal,
        clock: Clock,
        publish: Callable[[Notice], None],
    ) -> None:
        self._trading, self._dispatch = trading, dispatch
        self._journal, self._clock, self._publish = journal, clock, publish
        self._roots = [each.root for each in trading.engine.symbols]
        self._does: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
            "halt": self._halt,
            "flatten": self._flatten,
            "resume": self._resume,
            "resolve": self._resolve,
            "position": self._position,
        }

    def take_up(self) -> None:
        """Shut what a run before left shut, before anything leaves."""
        kept = self._journal.last_event("gate")
        if kept is not None:
            self._dispatch.hold(cast("Gate", kept["gate"]))

    def take(self) -> None:
        """Do what waits. Killed in between, it is done again: each leaves the same, done twice."""
        for command in self._journal.take_commands():
            said = self._said(command)
            now_ns = self._clock.now_ns()
            text = f"{command.command}: {said}"
            facts = {"command": command.number, "name": command.command, "said": said}
            self._journal.event(now_ns, "command", facts)
            self._journal.settle_command(command.number, now_ns)
            self._publish(Notice("command", text, now_ns, "warning", text, facts))

    def _said(self, command: Command) -> str:
        does = self._does.get(command.command)
        if does is None:
            return "this version does not know it"
        try:
            return does(command.facts)
        except (IbsError, LookupError, TypeError, ValueError) as error:
            # Settled all the same: a command that breaks must not keep exits from leaving at every start.
            return f"not done: {error if isinstance(error, IbsError) else type(error).__name__}"

    def _halt(self, facts: Mapping[str, Any]) -> str:
        is_all = bool(facts.get("all"))
        self._hold("halted" if is_all or self._dispatch.gate == "halted" else "reduce_only")
        self._trading.block("halted")
        if self._dispatch.gate == "halted":
            return "nothing leaves" if is_all else f"entries are halted; {_SHUT}"
        return "no entries, exits leave"

    def _flatten(self, facts: Mapping[str, Any]) -> str:
        roots = facts.get("symbols") or self._roots
        unknown = [root for root in roots if root not in self._roots]
        if unknown:
            return f"not done: {', '.join(unknown)} is not traded here"
        if self._dispatch.gate == "open":
            self._hold("reduce_only")
        self._trading.block("halted")
        said = self._leave(roots, by_hand=False)
        return f"{said}; {_SHUT}" if self._dispatch.gate == "halted" else said

    def _resume(self, _facts: Mapping[str, Any]) -> str:
        self._trading.block("halted", off=True)
        self._hold("open")
        return "entries are decided again, everything leaves"

    def _resolve(self, facts: Mapping[str, Any]) -> str:
        return self._dispatch.resolve(facts["order_id"], facts["verdict"])

    def _position(self, facts: Mapping[str, Any]) -> str:
        root = facts["symbol"]
        if root not in self._roots:
            return f"not done: {root} is not traded here"
        waiting = self._dispatch.undelivered().get(root)
        if waiting is not None:
            return self._dispatch.resolve(waiting.order_id, "flat")
        return self._leave([root], by_hand=True)

    def _leave(self, roots: Sequence[str], *, by_hand: bool) -> str:
        """Close the positions of symbols in the book, one entry of the journal each."""
        status, now_ns = self._trading.engine.book["status"], self._clock.now_ns()
        held = [root for root in roots if status[self._roots.index(root)] != FLAT]
        for root in held:
            # What cancels an entry that is on its way is sent all the same.
            done = by_hand and status[self._roots.index(root)] == OPEN
            self._trading.tell(FLATTEN, root, now_ns, by_hand=bool(done))
        said = [f"{root} {'is flat by hand' if by_hand else 'leaves'}" for root in held]
        # What was decided before and has not arrived is in no book any more, or leaves it already.
        for order, state in self._dispatch.closing(roots):
            if state == "DEAD":
                said.append(self._dispatch.resolve(order.order_id, "retry"))
            elif order.decided_ns < self._trading.engine.until_ns:
                said.append(f"{order.order_id} is {state}")
        return "; ".join(said) or "no position is open"

    def _hold(self, gate: Gate) -> None:
        """Shut or open the gate: on the disk first, so that a restart finds it so."""
        if gate != self._dispatch.gate:
            self._journal.event(self._clock.now_ns(), "gate", {"gate": gate})
            self._dispatch.hold(gate)
