"""A notice as JSON, the same for every receiver."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ibs_core.market_data.runs import stamp

if TYPE_CHECKING:
    from ibs_core.notices import Notice

__all__ = ["document_of", "spell"]


def document_of(notice: Notice) -> dict[str, Any]:
    """Return a notice as JSON values.

    Parameters
    ----------
    notice : Notice

    Returns
    -------
    dict of str to Any
        ``time`` in UTC, ``level``, ``kind``, ``cause``, ``text`` on one line, ``facts``.
    """
    return {
        "time": stamp(notice.time_ns),
        "level": notice.level,
        "kind": notice.kind,
        "cause": notice.cause,
        # A vendor's words may hold line ends, and codes that a terminal obeys.
        "text": "".join(each if each.isprintable() else " " for each in notice.text),
        "facts": dict(notice.facts),
    }


def spell(document: dict[str, Any]) -> str:
    """Write a document on one line, its keys sorted; whatever it holds, it is JSON.

    Parameters
    ----------
    document : dict of str to Any
        Of `document_of`.

    Returns
    -------
    str
        ASCII.
    """
    try:
        return json.dumps(document, sort_keys=True, allow_nan=False, default=str)
    except ValueError:  # NaN: our mistake, but no reason to lose what happened
        facts = {name: str(value) for name, value in document["facts"].items()}
        return json.dumps(document | {"facts": facts}, sort_keys=True)
