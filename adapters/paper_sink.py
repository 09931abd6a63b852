"""Orders on paper: each becomes the line of a file that the receiver would have been sent.

A line is on the disk before its order is ACKED in the journal. After a crash between the two the order is
still PENDING; handed over again, it is found in the file and only marked, so nothing is on paper twice and
nothing is missing.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

from ibs_core.errors import ConfigError, DataError, EnvironmentFault
from ibs_core.payload import body_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ibs_core.contracts import ContractMap
    from ibs_core.ports import Clock, Journal, Move, Order

__all__ = ["PaperSink"]

_BEGIN: Final = b'{"ticker": "'
"""Of every line, so that the end of another program's file is never taken for a line cut short."""


class PaperSink:
    """Writes orders to a file, one JSON object a line; an `OrderSink`.

    A last line that a crash cut short is taken off when the file is opened, and the journal is told, as an
    event ``paper_repaired``.

    Parameters
    ----------
    path : Path
        Made when missing, with its folder.
    journal : Journal
        With a run that has begun.
    clock : Clock
    strategy : str
        Name of it, for the record.
    contracts : ContractMap, optional
        See `payload_of`.

    Raises
    ------
    EnvironmentFault
        The file cannot be written, or another process writes to it.
    DataError
        It holds something else than orders.
    """

    def __init__(
        self,
        path: Path,
        journal: Journal,
        clock: Clock,
        *,
        strategy: str,
        contracts: ContractMap | None = None,
    ) -> None:
        self.path = path
        self._journal = journal
        self._clock = clock
        self._strategy = strategy
        self._repaired: dict[str, Any] = {}
        self._contracts = contracts
        self._is_halted = False
        self._held: list[Order] = []
        with self._faults():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            with self._faults():
                content = self._locked()
                whole = content.rfind(b"\n") + 1
                self._written = self._read(content[:whole])
                self._repair(content, whole)
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Take up what the journal holds unsent; the journal has a run."""
        self._tell_repair()
        self._held = [each for each in self._journal.unsent() if each.action != "entry"]

    def send(self, orders: Sequence[Order]) -> None:
        """Write orders that are not in the file yet, and mark all of them ACKED.

        Parameters
        ----------
        orders : sequence of Order
            PENDING in the journal.

        Raises
        ------
        EnvironmentFault
            The file cannot be written, a full disk among others: no line of these is there, and the orders
            stay PENDING.
        DataError
            See `payload_of`; or the journal does not let an order be ACKED.
        """
        self._tell_repair()
        handed = {each.order_id for each in orders}
        self._held = [each for each in self._held if each.order_id not in handed]
        if self._is_halted:
            self._held += orders
            return
        fresh = {
            order.order_id: body_of(order, self._strategy, self._contracts)
            for order in orders
            if order.order_id not in self._written
        }
        if fresh:
            self._append("".join(f"{line}\n" for line in fresh.values()).encode("ascii"))
            self._written.update(fresh)
        for order in orders:
            self._journal.order_state(order.order_id, "ACKED", self._clock.now_ns(), "on paper")

    def settled(self) -> list[tuple[Order, Move]]:
        """Return nothing: what is on paper has arrived, and what is kept back is told by `unsettled`."""
        return []

    def unsettled(self) -> list[tuple[Order, str]]:
        """Return what is kept back.

        Returns
        -------
        list of (Order, str)
        """
        return [(order, "PENDING") for order in self._held]

    def hold(self, gate: Literal["open", "reduce_only", "halted"]) -> None:
        """Keep everything back while nothing may leave; write it when it may.

        Parameters
        ----------
        gate : {"open", "reduce_only", "halted"}
        """
        self._is_halted = gate == "halted"
        if not self._is_halted and self._held:
            held, self._held = self._held, []
            self.send(held)

    def resolve(self, order_id: str, verdict: str) -> str:
        """Refuse: nothing is unknown on paper.

        Parameters
        ----------
        order_id, verdict : str

        Raises
        ------
        ConfigError
        """
        raise ConfigError(
            f"order {order_id!r}", expected="one of unknown outcome", found=f"{verdict}, on paper"
        )

    def standing(self) -> dict[str, Any]:
        """Return nothing of note: a file that cannot be written ends the worker."""
        return {"last_success": None, "last_error": None}

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self._tell_repair()

    def _locked(self) -> bytes:
        """Become the one writer, and return what is in the file."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EnvironmentFault(
                f"another process writes paper orders to {self.path}",
                remedy="end it first, or name another file",
            ) from None
        return self.path.read_bytes()

    def _read(self, content: bytes) -> set[str]:
        """Return the ids of the orders in whole lines."""
        written = set()
        for number, line in enumerate(content.splitlines(), start=1):
            try:
                written.add(str(json.loads(line)["extras"]["cid"]))
            except (ValueError, LookupError, TypeError):
                raise self._foreign(line, number) from None
        return written

    def _repair(self, content: bytes, whole: int) -> None:
        """Take off a line cut short, and put what stays on the disk: a crash may have left it in memory."""
        if cut := content[whole:]:
            begun = cut.rstrip(
                b"\0"
            )  # a loss of power can leave zeros in place of what was written
            if not (begun.startswith(_BEGIN) or _BEGIN.startswith(begun)):
                raise self._foreign(cut, content.count(b"\n") + 1)
            os.ftruncate(self._file, whole)
            facts = {"path": str(self.path), "bytes": len(cut)}
            self._repaired = facts
        os.fsync(self._file)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _tell_repair(self) -> None:
        """Journal a repair, once; when the file was opened the journal's run may not have begun."""
        if self._repaired:
            self._journal.event(self._clock.now_ns(), "paper_repaired", self._repaired)
            self._repaired = {}

    def _foreign(self, line: bytes, number: int) -> DataError:
        return DataError(
            f"file of paper orders {self.path}",
            expected="an order on every line",
            found=repr(line[:40].decode("utf-8", errors="replace")),
            where=f"line {number}",
            remedy="move it away or name another file",
        )

    def _append(self, lines: bytes) -> None:
        """Write whole lines, on the disk when this returns, or none."""
        with self._faults():
            length = os.fstat(self._file).st_size
            try:
                rest = memoryview(lines)
                while rest:
                    rest = rest[os.write(self._file, rest) :]
                os.fsync(self._file)
            except BaseException:
                os.ftruncate(self._file, length)
                raise

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EnvironmentFault(
                f"file of paper orders {self.path}",
                found=error.strerror or str(error),
                remedy="check the path, its permissions and the free space",
            ) from error
