"""Settings: one frozen tree, read from YAML overlays, every key checked.

Money has no hidden default: the defaults below are the published ones of the strategy and are written
into every run's ``config.resolved.yml``.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ibs_core.config_faults import config_error
from ibs_core.overlays import merge, read_overlay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "Costs",
    "Distance",
    "Entry",
    "Exits",
    "Live",
    "Members",
    "Model",
    "Risk",
    "Settings",
    "Strategy",
    "SymbolSettings",
    "load_settings",
    "resolved_yaml",
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


def _off(value: object) -> object:
    return "off" if value is False else value


def _section(value: object) -> object:
    """Let a section whose keys are all commented out change nothing."""
    return {} if value is None else value


def _filter_form(value: object) -> str | None:
    if isinstance(value, (dict, Members)):
        return "a set"
    return "a range" if isinstance(value, (list, tuple)) else None


def _none(value: object) -> object:
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


class _Frozen(BaseModel):
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


class Distance(_Frozen):
    """A distance from a price: percent of it, or multiples of the signal bar's ATR(14)."""

    percent: Percent | None = None
    atr: Positive | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Distance:
        if (self.percent is None) == (self.atr is None):
            raise ValueError("expected either percent or atr")
        return self


class Entry(_Frozen):
    """When a position is opened."""

    ibs: UnitBand = (0.0, 0.2)
    windows: Annotated[tuple[Window, ...], Field(max_length=8)] = ((0, 900), (1020, 1440))
    pivots: Annotated[Literal["inside", "higher_high", "none"], BeforeValidator(_none)] = "inside"
    max_wait: Duration = 5 * MINUTE_NS


class Protective(_Frozen):
    """Orders resting at the broker."""

    stop: Distance | None = None
    target: Distance | None = None


class Exits(_Frozen):
    """When a position is closed; null turns a rule off."""

    stop: Distance | None = Distance(percent=1.0)
    target: Distance | None = Distance(percent=1.0)
    ibs: UnitBand | None = (0.8, 1.0)
    bars: Count | None = 8
    flat_by: Clock | None = 900
    flat_before_early_close: bool = True
    protective: Protective | None = None


class Members(_Frozen):
    """A filter by membership."""

    members: tuple[Number, ...] = Field(alias="in", min_length=1, max_length=16)


Filter = Annotated[
    Annotated[Members, Tag("a set")] | Annotated[OpenBand, Tag("a range")],
    Discriminator(
        _filter_form,
        custom_error_type="filter",
        custom_error_message="expected a range [low, high] or a set {in: [1, 2]}",
    ),
]


class Strategy(_Frozen):
    """One symbol's trading rule."""

    signal_bar: Literal["1m", "5m", "15m", "30m", "1h", "4h", "1d"] = "1h"
    entry: Annotated[Entry, BeforeValidator(_section)] = Entry()
    filters: Annotated[dict[str, Filter], Field(max_length=32), BeforeValidator(_section)] = Field(
        default_factory=dict
    )
    exits: Annotated[Exits, BeforeValidator(_section)] = Exits()
    cooldown_bars: Annotated[int, BeforeValidator(_number), Field(ge=0)] = 0

    @model_validator(mode="after")
    def _long_bars_stay_overnight(self) -> Strategy:
        """Leave ``flat_by`` off by default where a bar spans most of the session."""
        given = self.exits.model_fields_set
        if self.signal_bar in ("4h", "1d") and "flat_by" not in given:
            exits = Exits.model_construct(given, **{**dict(self.exits), "flat_by": None})
            object.__setattr__(
                self, "exits", exits
            )  # not as if given: an override may shorten bars
        return self


class Model(_Frozen):
    """The veto model."""

    mode: Annotated[Literal["off", "shadow", "veto"], BeforeValidator(_off)] = "off"
    bundle: str | None = None


class Costs(_Frozen):
    """What trading costs: USD for each contract and side, ticks for each fill."""

    commission_per_side: NotNegative = 1.25
    slippage_ticks: NotNegative = 0.5


class Risk(_Frozen):
    """Limits over all symbols; null is off."""

    max_positions: Count | None = None
    daily_loss_usd: Positive | None = None
    max_orders_per_minute: Annotated[Count, Field(le=500)] | None = None
    no_entry_before_close: Duration | None = None


class Live(_Frozen):
    """How long live waits; no part of the rule, and nothing that a back-test knows."""

    grace: Duration = 20 * 10**9
    late: Duration = 30 * 10**9
    stale: Duration = 90 * 10**9
    entry_life: Duration = 10 * 10**9


class SymbolSettings(_Frozen):
    """What differs for one symbol."""

    quantity: Count = 1
    execute: str | None = None
    strategy: Annotated[dict[str, Any], BeforeValidator(_section)] = Field(default_factory=dict)


class Settings(_Frozen):
    """Everything that a run depends on besides its data."""

    strategy: Annotated[Strategy, BeforeValidator(_section)] = Strategy()
    model: Annotated[Model, BeforeValidator(_section)] = Model()
    costs: Annotated[Costs, BeforeValidator(_section)] = Costs()
    risk: Annotated[Risk, BeforeValidator(_section)] = Risk()
    live: Annotated[Live, BeforeValidator(_section)] = Live()
    capital: Positive = 100_000.0
    symbols: Annotated[
        dict[str, Annotated[SymbolSettings, BeforeValidator(_section)]], BeforeValidator(_section)
    ] = Field(default_factory=dict)
    contract_map: str | None = None

    def strategy_of(self, root: str) -> Strategy:
        """Merge a symbol's overrides over the common strategy.

        Parameters
        ----------
        root : str

        Returns
        -------
        Strategy

        Raises
        ------
        ConfigError
            The overrides are not a valid strategy.
        """
        return self._strategy_of(root, ())

    def in_mode(self, mode: Literal["off", "shadow", "veto"]) -> Settings:
        """Return the same settings with another mode of the model.

        Parameters
        ----------
        mode : str

        Returns
        -------
        Settings
        """
        return self.model_copy(update={"model": self.model.model_copy(update={"mode": mode})})

    def _strategy_of(self, root: str, overlays: Sequence[tuple[str, dict[str, Any]]]) -> Strategy:
        override = self.symbols[root].strategy if root in self.symbols else {}
        if not override:
            return self.strategy
        common = self.strategy.model_dump(mode="json", by_alias=True, exclude_unset=True)
        try:
            return Strategy.model_validate(merge(common, override))
        except ValidationError as error:
            raise config_error(error, ("symbols", root, "strategy"), overlays) from None


def load_settings(
    paths: Sequence[Path | str] = (),
    *,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Read YAML overlays from left to right over the defaults.

    Parameters
    ----------
    paths : sequence of Path or str
        Later files win, key by key.
    overrides : mapping, optional
        Laid over all files, as command-line options are.

    Returns
    -------
    Settings

    Raises
    ------
    EnvironmentFault
        A file cannot be read.
    ConfigError
        Not YAML, an unknown key, an impossible value, or an unset ``${VARIABLE}``.
    """
    overlays = [(str(path), read_overlay(Path(path))) for path in paths]
    overlays.append(("command line", dict(overrides or {})))
    merged: dict[str, Any] = {}
    for _, overlay in overlays:
        merged = merge(merged, overlay)
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise config_error(error, (), overlays) from None
    for root in settings.symbols:
        settings._strategy_of(root, overlays)  # noqa: SLF001  (the same, but names the file)
    return settings


def resolved_yaml(settings: Settings) -> str:
    """Write settings as a YAML file that loads to the same settings.

    Parameters
    ----------
    settings : Settings

    Returns
    -------
    str
    """
    tree = settings.model_dump(mode="json", by_alias=True)
    for root, symbol in tree["symbols"].items():
        if symbol["strategy"]:  # whole, or a default that follows the bar's width would be lost
            symbol["strategy"] = settings.strategy_of(root).model_dump(mode="json", by_alias=True)
    return yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, width=100)
