"""Orders on paper: each becomes the line of a file that the receiver would have been sent.

A line is on the disk before its order is ACKED in the journal. After a crash between the two the order is
still PENDING; handed over again, it is found in the file and only marked, so nothing is on paper twice and
nothing is missing.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ibs_core.errors import DataError, EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ibs_core.ports import Clock, Journal, Order

__all__ = ["PaperSink", "payload_of"]

_TICKER: Final = re.compile(r"[A-Z0-9]+[FGHJKMNQUVXZ]20\d\d", re.ASCII)
_BEGIN: Final = b'{"ticker": "'
"""Of every line, so that the end of another program's file is never taken for a line cut short."""


def payload_of(order: Order, strategy: str) -> dict[str, Any]:
    """Spell an order as TradersPost reads it.

    Parameters
    ----------
    order : Order
    strategy : str
        Name of it, for the record.

    Returns
    -------
    dict of str to Any
        JSON values. An exit names no quantity: it closes whatever is open.

    Raises
    ------
    DataError
        The contract has no year of four digits, or an entry buys nothing.
    """
    if not _TICKER.fullmatch(order.instrument):
        raise DataError(
            f"contract of order {order.order_id}",
            expected="a spelling as MESZ2025",
            found=repr(order.instrument),
        )
    if order.action == "entry" and order.quantity < 1:
        raise DataError(
            f"quantity of order {order.order_id}", expected="at least 1", found=str(order.quantity)
        )
    payload: dict[str, Any] = {"ticker": order.instrument}
    if order.action == "entry":
        payload |= {
            "action": "buy",
            "orderType": "market",
            "quantityType": "fixed_quantity",
            "quantity": order.quantity,
            "signalPrice": order.price,
        }
        if order.stop is not None:
            payload["stopLoss"] = {"type": "stop", "stopPrice": order.stop}
        if order.target is not None:
            payload["takeProfit"] = {"limitPrice": order.target}
    elif order.action == "exit":
        payload |= {
            "action": "exit",
            "orderType": "market",
            "cancel": True,
            "ignoreTradingWindows": True,
            "signalPrice": order.price,
        }
    else:
        payload["action"] = "cancel"
    told = {
        "reason": order.reason,
        "score": order.score,
        "threshold": order.threshold,
        "model": order.model,
    }
    return payload | {
        "time": _spelt(order.decided_ns),
        "extras": {"cid": order.order_id, "strategy": strategy, "v": 1}
        | {name: value for name, value in told.items() if value not in (None, "")},
    }


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

    Raises
    ------
    EnvironmentFault
        The file cannot be written, or another process writes to it.
    DataError
        It holds something else than orders.
    """

    def __init__(self, path: Path, journal: Journal, clock: Clock, *, strategy: str) -> None:
        self.path = path
        self._journal = journal
        self._clock = clock
        self._strategy = strategy
        with self._faults():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            with self._faults():
                content = self._held()
                whole = content.rfind(b"\n") + 1
                self._written = self._read(content[:whole])
                self._repair(content, whole)
        except BaseException:
            self.close()
            raise

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
        fresh = {
            order.order_id: json.dumps(payload_of(order, self._strategy), allow_nan=False)
            for order in orders
            if order.order_id not in self._written
        }
        if fresh:
            self._append("".join(f"{line}\n" for line in fresh.values()).encode("ascii"))
            self._written.update(fresh)
        for order in orders:
            self._journal.order_state(order.order_id, "ACKED", self._clock.now_ns(), "on paper")

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _held(self) -> bytes:
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
            self._journal.event(self._clock.now_ns(), "paper_repaired", facts)
        os.fsync(self._file)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

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


def _spelt(time_ns: int) -> str:
    """Spell an instant as 2026-11-20T14:30:00.123+00:00; what is below a millisecond is left out."""
    seconds, rest = divmod(time_ns, 10**9)
    time = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return time.isoformat(timespec="milliseconds")
