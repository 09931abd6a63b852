"""Records of the wire, built in bulk: every record's size is a multiple of eight bytes, so all are words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from databento_dbn import (
    UNDEF_TIMESTAMP,
    ErrorCode,
    ErrorMsg,
    Metadata,
    SType,
    SymbolMappingMsg,
    SystemCode,
    SystemMsg,
)
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ibs_core.bars import Ints, Records

__all__ = [
    "BAR_RECORD",
    "BAR_SCHEMA",
    "TRADE_RECORD",
    "TRADE_SCHEMA",
    "Batch",
    "Source",
    "Stream",
    "Words",
    "error_message",
    "interval_ends",
    "mapping_message",
    "metadata",
    "next_batch",
    "stamped",
    "system_message",
    "words_of",
]

Words = NDArray[np.uint64]
BAR_SCHEMA: Final = "ohlcv-1m"
TRADE_SCHEMA: Final = "trades"
_HEADER: Final = [
    ("length", "u1"),  # in units of four bytes
    ("rtype", "u1"),
    ("publisher_id", "<u2"),
    ("instrument_id", "<u4"),
    ("ts_event", "<u8"),
]
BAR_RECORD: Final = np.dtype(
    [
        *_HEADER,
        ("open", "<i8"),
        ("high", "<i8"),
        ("low", "<i8"),
        ("close", "<i8"),
        ("volume", "<u8"),
    ]
)
TRADE_RECORD: Final = np.dtype(
    [
        *_HEADER,
        ("price", "<i8"),
        ("size", "<u4"),
        ("action", "S1"),
        ("side", "S1"),
        ("flags", "u1"),
        ("depth", "u1"),
        ("ts_recv", "<u8"),
        ("ts_in_delta", "<i4"),
        ("sequence", "<u4"),
    ]
)
_BATCH_RECORDS: Final = 1 << 15


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """All records of one schema, in the order in which they become known.

    Parameters
    ----------
    records : (n,) BAR_RECORD or TRADE_RECORD
    known_ns : (n,) int64, UTC ns, non-decreasing
        End of a bar's minute; ``ts_recv`` of a trade.
    """

    records: Records
    known_ns: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What a session draws batches from.

    Parameters
    ----------
    known_ns : (n,) int64, UTC ns, non-decreasing
    cut : callable
        Takes a slice of the source; gives instants (k,) int64 and words (k, size) of what is served of it.
    is_data : bool
        Bars and trades, not signals.
    """

    known_ns: Ints
    cut: Callable[[slice], tuple[Ints, Words]]
    is_data: bool


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Records ready to be sent.

    Parameters
    ----------
    known_ns : (n,) int64, UTC ns, non-decreasing
    is_data : (n,) bool
    stops : (n + 1,) int64
        Record i is ``content[stops[i]:stops[i + 1]]``.
    content : memoryview
        Bytes.
    """

    known_ns: Ints
    is_data: NDArray[np.bool_]
    stops: Ints
    content: memoryview


def words_of(records: Records) -> Words:
    """Return records as words, without a copy.

    Parameters
    ----------
    records : (n,) records, C-contiguous

    Returns
    -------
    (n, itemsize / 8) uint64
    """
    return records.view(np.uint64).reshape(len(records), records.dtype.itemsize // 8)


def interval_ends(ends_ns: Ints) -> Words:
    """Return END_OF_INTERVAL messages of minute bars.

    Parameters
    ----------
    ends_ns : (n,) int64, UTC ns
        Exclusive ends of the intervals.

    Returns
    -------
    (n, 40) uint64
    """
    message = system_message(SystemCode.END_OF_INTERVAL, f"End of interval for {BAR_SCHEMA}", 0)
    words = np.repeat(np.frombuffer(message, np.uint64)[None], len(ends_ns), axis=0)
    words[:, 1] = ends_ns
    return words


def next_batch(
    sources: Sequence[Source], after_ns: int, until_ns: int, *, ts_out: bool
) -> tuple[Batch, int]:
    """Merge what becomes known in a span of market time.

    At one instant, records stand in the order of the sources. An instant is never split, so that a
    batch may follow the last one wherever that stopped.

    Parameters
    ----------
    sources : sequence of Source
    after_ns, until_ns : int, UTC ns
        The span ``(after, until]``.
    ts_out : bool
        Append the instant to each record.

    Returns
    -------
    batch : Batch
    reached_ns : int, UTC ns
        The end of the part of the span that the batch covers.
    """
    starts = [int(np.searchsorted(each.known_ns, after_ns, side="right")) for each in sources]
    reached = until_ns
    for source, start in zip(sources, starts, strict=True):
        if start + _BATCH_RECORDS < source.known_ns.size:
            last = int(source.known_ns[start + _BATCH_RECORDS]) - 1
            reached = min(reached, max(last, int(source.known_ns[start])))
    parts = []
    for source, start in zip(sources, starts, strict=True):
        stop = int(np.searchsorted(source.known_ns, reached, side="right"))
        if start < stop:
            known, words = source.cut(slice(start, stop))
            parts.append((known, stamped(words, known) if ts_out else words, source.is_data))
    return _interleaved(parts), reached


def stamped(words: Words, ts_ns: Ints) -> Words:
    """Append ``ts_out`` to records.

    Parameters
    ----------
    words : (n, size) uint64
    ts_ns : (n,) int64, UTC ns

    Returns
    -------
    (n, size + 1) uint64
    """
    longer = np.column_stack([words, ts_ns.astype(np.uint64)])
    longer[:, 0] += np.uint64(2)  # the first byte is the length in units of four bytes
    return longer


def _interleaved(parts: Sequence[tuple[Ints, Words, bool]]) -> Batch:
    if not parts:
        return Batch(
            np.empty(0, np.int64), np.empty(0, bool), np.zeros(1, np.int64), memoryview(b"")
        )
    known = np.concatenate([instants for instants, _, _ in parts])
    sizes = np.concatenate([np.full(len(words), words.shape[1]) for _, words, _ in parts])
    is_data = np.concatenate([np.full(len(words), data) for _, words, data in parts])
    if len(parts) == 1:
        content = np.ascontiguousarray(parts[0][1]).reshape(-1)
    else:
        order = np.argsort(known, kind="stable")
        known, is_data = known[order], is_data[order]
        starts = np.empty(len(order), np.int64)
        ends = np.cumsum(sizes[order])
        starts[order] = ends - sizes[order]
        content = np.empty(int(ends[-1]) if ends.size else 0, np.uint64)
        first, sizes = 0, sizes[order]
        for _, words, _ in parts:
            own = starts[first : first + len(words)]
            content[own[:, None] + np.arange(words.shape[1])] = words
            first += len(words)
    stops = np.concatenate([np.zeros(1, np.int64), 8 * np.cumsum(sizes)])
    return Batch(known, is_data, stops, content.view(np.uint8).data)


def metadata(dataset: str, now_ns: int, *, ts_out: bool) -> bytes:
    """Return the header of a live session.

    Parameters
    ----------
    dataset : str
    now_ns : int, UTC ns
    ts_out : bool

    Returns
    -------
    bytes
    """
    header = Metadata(
        dataset=dataset,
        start=now_ns,
        stype_in=None,
        stype_out=SType.from_str("instrument_id"),
        schema=None,
        ts_out=ts_out,
        version=3,
    )
    return bytes(header.encode())


def system_message(code: int, text: str, now_ns: int) -> bytes:
    """Return a message of the gateway.

    Parameters
    ----------
    code : int
        Of `databento_dbn.SystemCode`.
    text : str
    now_ns : int, UTC ns

    Returns
    -------
    bytes
    """
    return bytes(SystemMsg(now_ns, text, SystemCode.from_int(int(code))))


def error_message(code: int, text: str, now_ns: int) -> bytes:
    """Return an error; the code tells whether it is fatal.

    Parameters
    ----------
    code : int
        Of `databento_dbn.ErrorCode`.
    text : str
    now_ns : int, UTC ns

    Returns
    -------
    bytes
    """
    return bytes(ErrorMsg(now_ns, text, is_last=True, code=ErrorCode.from_int(int(code))))


def mapping_message(
    stype_in: str, symbol: str, raw_symbol: str, instrument_id: int, now_ns: int
) -> bytes:
    """Tell what a requested symbol stands for.

    Parameters
    ----------
    stype_in : str
    symbol : str
        As requested.
    raw_symbol : str
    instrument_id : int
    now_ns : int, UTC ns

    Returns
    -------
    bytes
    """
    message = SymbolMappingMsg(
        publisher_id=0,
        instrument_id=instrument_id,
        ts_event=now_ns,
        stype_in=SType.from_str(stype_in),
        stype_in_symbol=symbol,
        stype_out=SType.from_str("raw_symbol"),
        stype_out_symbol=raw_symbol,
        start_ts=UNDEF_TIMESTAMP,
        end_ts=UNDEF_TIMESTAMP,
    )
    return bytes(message)
