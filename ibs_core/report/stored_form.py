"""The form of ``stats.json``, as far as reports read it; keys that are not named here may be anything."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Final, NotRequired

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

# Of the standard library's, Pydantic takes that of Python 3.12 only.
from typing_extensions import TypedDict

from ibs_core.report.definitions import METRICS
from ibs_core.report.run import TOTAL

__all__ = ["form_fault"]


def _date(text: str) -> str:
    date.fromisoformat(text)
    return text


def _instant(text: str) -> str:
    np.datetime64(text.removesuffix("Z"), "ns")
    return text


def _with_total(tables: dict[str, Any]) -> dict[str, Any]:
    if TOTAL not in tables:
        raise ValueError(f"no {TOTAL}")
    return tables


_Count = Annotated[int, Field(ge=0)]
_Number = float | None


class _Group(TypedDict):
    trades: Annotated[int, Field(ge=1)]
    win_rate: float
    net_usd: float
    average_usd: float


class _ByReason(_Group):
    reason: str


class _ByHour(_Group):
    hour: Annotated[int, Field(ge=0, le=23)]


class _ByWeekday(_Group):
    weekday: Annotated[int, Field(ge=1, le=5)]  # trade dates are never on a weekend


class _ByYear(_Group):
    year: int


class _Month(TypedDict):
    month: Annotated[str, Field(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")]
    net_usd: float


class _Position(TypedDict):
    instrument: str
    quantity: int
    entry_time: str
    entry_price: float
    mark: float
    open_usd: float


class _Window(TypedDict):
    version: str
    first_decision: Annotated[str, AfterValidator(_instant)]
    last_label_end: Annotated[str, AfterValidator(_instant)]
    trades: _Count
    of: _Count


class _Followed(TypedDict):
    bars: _Count
    bar_n: _Count
    bar_bp: _Number
    bar_se_bp: _Number
    session_n: _Count
    session_bp: _Number
    session_se_bp: _Number


class _Bucket(_Followed):
    ibs_from: float


class _Forward(TypedDict):
    all: _Followed
    buckets: list[_Bucket]


_Block = TypedDict(
    "_Block",
    {
        **{metric.key: NotRequired[_Number] for metric in METRICS},  # type: ignore[misc]
        "trades": _Count,
        "sessions": _Count,
        "net_usd": _Number,
        "undefined": NotRequired[dict[str, str]],
    },
)


class _Apart(TypedDict):
    total: _Block
    by_symbol: dict[str, _Block]


class _Stats(_Apart):
    __pydantic_config__ = ConfigDict(strict=True, allow_inf_nan=False)  # type: ignore[misc]  # Pydantic's own way

    capital_usd: Annotated[float, Field(gt=0)]
    monthly: dict[str, list[_Month]]
    by_exit_reason: list[_ByReason]
    first_session: NotRequired[Annotated[str, AfterValidator(_date)] | None]
    last_session: NotRequired[Annotated[str, AfterValidator(_date)] | None]
    by_hour: NotRequired[list[_ByHour]]
    by_weekday: NotRequired[list[_ByWeekday]]
    by_year: NotRequired[list[_ByYear]]
    blocked: NotRequired[dict[str, dict[str, int]]]
    open_positions: NotRequired[list[_Position]]
    forward_returns: NotRequired[Annotated[dict[str, _Forward], AfterValidator(_with_total)]]
    training_windows: NotRequired[dict[str, _Window]]
    inside_training: NotRequired[_Apart]


_STATS: Final = TypeAdapter(_Stats)


def form_fault(stats: dict[str, Any]) -> str:
    """Say what keeps statistics from being shown.

    Parameters
    ----------
    stats : dict
        The content of a ``stats.json``.

    Returns
    -------
    str
        The first fault, as a key and what is wrong with it; empty where there is none.
    """
    try:
        _STATS.validate_python(stats, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
    apart = stats.get("inside_training", {"by_symbol": {}})["by_symbol"]
    if unknown := apart.keys() - stats.get("training_windows", {}).keys():
        return f"training_windows: no {', '.join(sorted(unknown))}"
    return ""
