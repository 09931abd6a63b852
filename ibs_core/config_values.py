"""The kinds of values that settings are made of: durations, clock times, bands, and sections without unknown keys."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

__all__ = [
    "MINUTE_NS",
    "Band",
    "Clock",
    "Count",
    "Duration",
    "Frozen",
    "NotNegative",
    "Number",
    "OpenBand",
    "Percent",
    "Positive",
    "UnitBand",
    "Whole",
    "Window",
    "none_for_null",
    "off_for_false",
    "section",
]

MINUTE_NS = 60 * 10**9


def _duration_ns(value: object) -> object:
    """Read "5m" as nanoseconds."""
    units = {"s": 10**9, "m": MINUTE_NS, "h": 60 * MINUTE_NS}
    match = re.fullmatch(r"(\d+)\s*([smh])", value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('expected a duration such as "30s", "5m" or "1h"')
    return int(match[1]) * units[match[2]]


def _clock_minute(value: object) -> object:
    """Read "15:00" as minutes of the day; unquoted, YAML has already made it 900."""
    match = re.fullmatch(r"(\d{1,2}):(\d{2})", value) if isinstance(value, str) else None
    minute = int(match[1]) * 60 + int(match[2]) if match and int(match[2]) < 60 else value
    if not isinstance(minute, int) or isinstance(minute, bool) or not 0 <= minute <= 1440:
        raise ValueError(
            'expected an exchange time from "00:00" to "24:00", quoted (flat_by: null for off)'
        )
    return minute


def _number(value: object) -> object:
    """Refuse a YAML boolean, which would count as 1 or 0."""
    if isinstance(value, bool):
        raise ValueError("expected a number")  # noqa: TRY004  (pydantic collects ValueError only)
    return value


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if not pair[0] <= pair[1]:  # also where an end is NaN
        raise ValueError("expected [low, high] with low <= high")
    return pair


def _unit(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] < 0 or pair[1] > 1:
        raise ValueError("expected a band within [0, 1]")
    return pair


def _window(pair: tuple[int, int]) -> tuple[int, int]:
    if pair[0] >= pair[1]:
        raise ValueError(
            "expected a window that starts before it ends; write one over midnight as two",
        )
    return pair


def off_for_false(value: object) -> object:
    """Read an unquoted ``off``, which YAML takes for a boolean.

    Parameters
    ----------
    value : object

    Returns
    -------
    object
    """
    return "off" if value is False else value


def section(value: object) -> object:
    """Let a section whose keys are all commented out change nothing.

    Parameters
    ----------
    value : object

    Returns
    -------
    object
    """
    return {} if value is None else value


def none_for_null(value: object) -> object:
    """Read an unquoted null as the choice ``none``.

    Parameters
    ----------
    value : object

    Returns
    -------
    object
    """
    return "none" if value is None else value


def _clock_text(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _duration_text(ns: int) -> str:
    return f"{ns // MINUTE_NS}m" if ns % MINUTE_NS == 0 else f"{ns // 10**9}s"


Duration = Annotated[int, BeforeValidator(_duration_ns), PlainSerializer(_duration_text)]
Clock = Annotated[int, BeforeValidator(_clock_minute), PlainSerializer(_clock_text)]
Number = Annotated[float, BeforeValidator(_number)]
Band = Annotated[tuple[Number, Number], AfterValidator(_ordered)]
Open = Annotated[float, Field(allow_inf_nan=True), BeforeValidator(_number)]
OpenBand = Annotated[tuple[Open, Open], AfterValidator(_ordered)]
UnitBand = Annotated[Band, AfterValidator(_unit)]
Window = Annotated[tuple[Clock, Clock], AfterValidator(_window)]
Percent = Annotated[Number, Field(gt=0, lt=100)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Count = Annotated[int, BeforeValidator(_number), Field(ge=1)]
Whole = Annotated[int, BeforeValidator(_number), Field(ge=0)]


class Frozen(BaseModel):
    """A section: frozen, and without a key that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, raw: Any) -> Any:
        if isinstance(raw, dict):
            known = [field.alias or name for name, field in cls.model_fields.items()]
            for key in raw:
                if key not in known:
                    near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
                    hint = (
                        f"did you mean {near[0]!r}?" if near else f"keys here: {', '.join(known)}"
                    )
                    raise PydanticCustomError("unknown_key", "{hint}", {"key": key, "hint": hint})
        return raw
