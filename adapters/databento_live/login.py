"""A login at the gateway with the vendor's own handshake, that asks for no data."""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from databento.common.error import BentoError
from databento.live.protocol import DatabentoLiveProtocol

from ibs_core.errors import EnvironmentFault

if TYPE_CHECKING:
    from adapters.databento_live.connection import Address

__all__ = ["log_in"]

_PATIENCE_S: Final = 10.0


def log_in(key: str, dataset: str, address: Address, patience_s: float = _PATIENCE_S) -> None:
    """Connect, authenticate and leave.

    Parameters
    ----------
    key : str
        Appears in no text.
    dataset : str
    address : tuple of (str, int)
        Host and port.
    patience_s : float, seconds
        For the whole.

    Raises
    ------
    EnvironmentFault
        The gateway is not reached, or refuses.
    """
    where = f"{address[0]}:{address[1]}"
    remedy = "check the network and https://status.databento.com"
    try:
        return asyncio.run(asyncio.wait_for(_log_in(key, dataset, address), patience_s))
    except BentoError as error:
        found = str(error).replace(key, "…")
        remedy = "check DATABENTO_API_KEY and what its account may read live"
    except TimeoutError:
        found = f"no login within {patience_s:g} s"
    except OSError as error:
        number = (
            error.errno or 0
        )  # asyncio writes its own text; one below 0 is of the names' service
        found = os.strerror(number) if number > 0 else str(error.strerror)
    raise EnvironmentFault(
        f"market data of {dataset}",
        expected=f"a login at {where}",
        found=found,
        remedy=remedy,
    )


async def _log_in(key: str, dataset: str, address: Address) -> None:
    loop = asyncio.get_running_loop()
    protocol = DatabentoLiveProtocol(key, dataset)
    transport, _ = await loop.create_connection(lambda: protocol, *address)
    awaited: set[asyncio.Future[Any]] = {protocol.authenticated, protocol.disconnected}
    try:
        await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        if not protocol.authenticated.done():
            protocol.disconnected.result()
            raise ConnectionResetError(errno.ECONNRESET, "closed in the handshake")
        protocol.authenticated.result()
    finally:
        transport.abort()
        with suppress(Exception):
            await protocol.disconnected
        for future in (*awaited, protocol.metadata_received):  # one nobody looked at would be told
            if not future.done():
                future.cancel()
            elif not future.cancelled():
                future.exception()
