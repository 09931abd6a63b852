"""The live stream's bytes: whole records cut from what the socket gave, in runs of one kind.

A record object costs a microsecond and more, a run of a thousand records as one structured array about
as much. Only what steers the session (mappings, system and error messages, a handful a minute) goes through
the vendor's decoder, which also lifts the short forms of old versions to the present ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import databento_dbn
import numpy as np
from numpy.typing import NDArray

from ibs_core.market_data.dbn import BAR_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BAR_RTYPE", "TRADE", "TRADE_RTYPE", "Run", "Splitter"]

Records: TypeAlias = NDArray[np.void]

TRADE_RTYPE: Final = 0
BAR_RTYPE: Final = 33
TRADE: Final = np.dtype(
    [
        ("length", "u1"),
        ("rtype", "u1"),
        ("publisher_id", "<u2"),
        ("instrument_id", "<u4"),
        ("ts_event", "<u8"),
        ("price", "<i8"),
        ("size", "<u4"),
        ("action", "u1"),
        ("side", "u1"),
        ("flags", "u1"),
        ("depth", "u1"),
        ("ts_recv", "<u8"),
        ("ts_in_delta", "<i4"),
        ("sequence", "<u4"),
    ]
)
"""A trade as it travels; prices in 1e-9 units."""

_DTYPES: Final = {TRADE_RTYPE: TRADE, BAR_RTYPE: np.dtype(BAR_FIELDS)}
_CONTROL: Final = {21, 22, 23}  # error, symbol mapping, system
_HEADER_BYTES: Final = 16


class Run(NamedTuple):
    """Consecutive records of one kind.

    Parameters
    ----------
    rtype : int
    records : array or object
        Trades or bars as a structured array, else one record of the vendor's decoder.
    """

    rtype: int
    records: Any


class Splitter:
    """Cuts one session's bytes into records.

    What has come of a record that is not whole yet waits for the rest.
    """

    def __init__(self) -> None:
        self._left = b""
        self._decoder = databento_dbn.DBNDecoder()  # lifts old versions to the present one
        self.header = b""

    def take(self, data: bytes) -> tuple[list[Run], bytes]:
        """Take what the socket gave.

        Parameters
        ----------
        data : bytes

        Returns
        -------
        runs : list of Run
            In order. The arrays are views of the bytes.
        whole : bytes
            The records that they were cut from.

        Raises
        ------
        ValueError
            The stream is not DBN, or not what was asked for; the session is of no further use.
        """
        data = self._left + data if self._left else data
        at = 0
        if not self.header:
            if not b"DBN".startswith(data[:3]):
                raise ValueError(f"the stream begins with {data[:3]!r}, not with a DBN header")
            if len(data) < 8 or len(data) < (at := 8 + int.from_bytes(data[4:8], "little")):
                self._left = data
                return [], b""
            self._begin(data[:at])
        runs: list[Run] = []
        first = at
        for rtype, start, size, n_records in _stretches(data, at):
            at = start + size * n_records
            runs += self._run(data, rtype, start, size, n_records)
        self._left = data[at:]
        return runs, data[first:at]

    def _begin(self, header: bytes) -> None:
        (metadata,) = self._decoder.write_and_decode(header)
        if metadata.ts_out:
            raise ValueError("the stream carries send times that were not asked for")
        self.header = header

    def _run(self, data: bytes, rtype: int, start: int, size: int, n_records: int) -> Iterator[Run]:
        dtype = _DTYPES.get(rtype)
        if dtype is not None:
            if dtype.itemsize != size:
                raise ValueError(f"a record of kind {rtype} has {size} bytes, not {dtype.itemsize}")
            yield Run(rtype, np.frombuffer(data, dtype, n_records, start))
        elif rtype in _CONTROL:
            for record in self._decoder.write_and_decode(data[start : start + size * n_records]):
                yield Run(rtype, record)


def _stretches(data: bytes, at: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield kind, offset, record size and count of each run of records of one kind and size."""
    octets = np.frombuffer(data, np.uint8)
    while at < len(data):
        size, rtype = 4 * data[at], data[at + 1] if at + 1 < len(data) else 0
        if size < _HEADER_BYTES:
            raise ValueError(f"a record of {size} bytes")
        n_whole = (len(data) - at) // size
        if n_whole == 0:
            return
        n, window = 1, 16
        while n < n_whole:  # look ahead in growing steps: kinds may alternate
            stop = min(n_whole, window)
            heads = octets[at : at + stop * size].reshape(stop, size)[n:, :2]
            other = np.flatnonzero((heads[:, 0] != data[at]) | (heads[:, 1] != rtype))
            if other.size:
                n += int(other[0])
                break
            n, window = stop, window * 8
        yield rtype, at, size, n
        at += n * size
