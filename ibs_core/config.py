"""Settings: one frozen tree, read from YAML overlays, every key checked.

Money has no hidden default: the defaults below are the published ones of the strategy and are written
into every run's ``config.resolved.yml``.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from ibs_core.errors import ConfigError, EnvironmentFault

__all__ = [
    "Costs",
    "Distance",
    "Entry",
    "Exits",
    "Members",
    "Model",
    "Risk",
    "Settings",
    "Strategy",
    "SymbolSettings",
    "load_settings",
    "resolved_yaml",
]

SIGNAL_BARS = ("1m", "5m", "15m", "30m", "1h", "4h", "1d")
MINUTE_NS = 60 * 10**9

# Replaced whole by an overlay, never merged key by key: {percent: 1} under {atr: 1} must not give both.
_ATOMS = frozenset({"stop", "target"})


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
        raise ValueError('expected an exchange time from "00:00" to "24:00", quoted')
    return minute


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("expected [low, high] with low <= high")
    return pair


def _unit(pair: tuple[float, float]) -> tuple[float, float]:
    if not (0 <= pair[0] and pair[1] <= 1):
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


def _none(value: object) -> object:
    return "none" if value is None else value


def _clock_text(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _duration_text(ns: int) -> str:
    return f"{ns // MINUTE_NS}m" if ns % MINUTE_NS == 0 else f"{ns // 10**9}s"


Duration = Annotated[int, BeforeValidator(_duration_ns), PlainSerializer(_duration_text)]
Clock = Annotated[int, BeforeValidator(_clock_minute), PlainSerializer(_clock_text)]
Band = Annotated[tuple[float, float], AfterValidator(_ordered)]
UnitBand = Annotated[Band, AfterValidator(_unit)]
Window = Annotated[tuple[Clock, Clock], AfterValidator(_window)]
Percent = Annotated[float, Field(gt=0, lt=100)]
Positive = Annotated[float, Field(gt=0)]


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
                    hint = f"did you mean {near[0]!r}?" if near else f"keys here: {', '.join(known)}"
                    raise ValueError(f"unknown key {key!r}; {hint}")
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
    windows: tuple[Window, ...] = Field(((0, 900), (1020, 1440)), max_length=8)
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
    bars: Annotated[int, Field(ge=1)] | None = 8
    flat_by: Clock | None = 900
    flat_before_early_close: bool = True
    protective: Protective | None = None


class Members(_Frozen):
    """A filter by membership."""

    members: tuple[float, ...] = Field(alias="in", min_length=1, max_length=16)


class Strategy(_Frozen):
    """One symbol's trading rule."""

    signal_bar: Literal["1m", "5m", "15m", "30m", "1h", "4h", "1d"] = "1h"
    entry: Entry = Entry()
    filters: dict[str, Members | Band] = Field(default_factory=dict, max_length=32)
    exits: Exits = Exits()
    cooldown_bars: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="before")
    @classmethod
    def _long_bars_stay_overnight(cls, raw: Any) -> Any:
        """Leave ``flat_by`` off by default where a bar spans most of the session."""
        if isinstance(raw, dict) and raw.get("signal_bar") in ("4h", "1d"):
            exits = raw.get("exits", {})
            if isinstance(exits, dict) and "flat_by" not in exits:
                return {**raw, "exits": {**exits, "flat_by": None}}
        return raw


class Model(_Frozen):
    """The veto model."""

    mode: Annotated[Literal["off", "shadow", "veto"], BeforeValidator(_off)] = "off"
    bundle: str | None = None


class Costs(_Frozen):
    """What trading costs: USD for each contract and side, ticks for each fill."""

    commission_per_side: Annotated[float, Field(ge=0)] = 1.25
    slippage_ticks: Annotated[float, Field(ge=0)] = 0.5


class Risk(_Frozen):
    """Limits over all symbols; null is off."""

    max_positions: Annotated[int, Field(ge=1)] | None = None
    daily_loss_usd: Positive | None = None
    max_orders_per_minute: Annotated[int, Field(ge=1, le=500)] | None = None
    no_entry_before_close: Duration | None = None


class SymbolSettings(_Frozen):
    """What differs for one symbol."""

    quantity: Annotated[int, Field(ge=1)] = 1
    execute: str | None = None
    strategy: dict[str, Any] = Field(default_factory=dict)


class Settings(_Frozen):
    """Everything that a run depends on besides its data."""

    strategy: Strategy = Strategy()
    model: Model = Model()
    costs: Costs = Costs()
    risk: Risk = Risk()
    capital: Positive = 100_000.0
    symbols: dict[str, SymbolSettings] = Field(default_factory=dict)
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
        override = self.symbols[root].strategy if root in self.symbols else {}
        if not override:
            return self.strategy
        common = self.strategy.model_dump(mode="json", by_alias=True, exclude_unset=True)
        try:
            return Strategy.model_validate(_merged(common, override))
        except ValidationError as error:
            raise _config_error(error, ("symbols", root, "strategy"), []) from None


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
    overlays = [(str(path), _read(Path(path))) for path in paths]
    overlays.append(("command line", dict(overrides or {})))
    merged: dict[str, Any] = {}
    for _, overlay in overlays:
        merged = _merged(merged, overlay)
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise _config_error(error, (), overlays) from None
    for root in settings.symbols:
        settings.strategy_of(root)
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
    return yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, width=100)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault(
            f"configuration file {str(path)!r}",
            expected="a readable file",
            found=error.strerror or str(error),
            remedy="check the path given with --config",
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"configuration file {str(path)!r}", expected="UTF-8 text") from None
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = str(getattr(error, "problem", error))
        raise ConfigError(
            f"configuration file {str(path)!r}",
            expected="valid YAML",
            found=problem,
            where=where,
        ) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(
            f"configuration file {str(path)!r}",
            expected="a mapping of keys to values",
            found=type(tree).__name__,
        )
    return {key: _expanded(value, f"{path}: {key}") for key, value in tree.items()}


def _expanded(value: Any, where: str) -> Any:
    """Replace ``${VARIABLE}`` by the environment's value, at any depth."""
    if isinstance(value, dict):
        return {key: _expanded(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_expanded(item, where) for item in value]
    if not isinstance(value, str):
        return value

    def look_up(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise ConfigError(
                f"environment variable {match[1]!r}",
                expected="a value",
                found="nothing",
                where=where,
                remedy="set it or remove the placeholder",
            )
        return found

    return re.sub(r"\$\{(\w+)\}", look_up, value)


def _merged(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in overlay.items():
        below = out.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and key not in _ATOMS:
            out[key] = _merged(below, value)
        else:
            out[key] = value
    return out


def _config_error(
    error: ValidationError,
    prefix: tuple[str, ...],
    overlays: Sequence[tuple[str, dict[str, Any]]],
) -> ConfigError:
    """Tell every fault with its place; the file named is the last that sets the key."""
    lines = []
    for fault in error.errors(include_url=False, include_context=False):
        loc = [str(part) for part in (*prefix, *fault["loc"]) if part not in ("Members", "tuple")]
        path = ".".join(part for part in loc if "[" not in part) or "the file"
        file = next((name for name, tree in reversed(overlays) if _holds(tree, loc)), "")
        message = fault["msg"].removeprefix("Value error, ")
        found = fault["input"]
        shown = f", found {found!r}" if not isinstance(found, dict) else ""
        lines.append(f"{file + ': ' if file else ''}{path}: {message}{shown}")
    return ConfigError("configuration: " + "; ".join(dict.fromkeys(lines)))


def _holds(tree: Any, loc: Sequence[str]) -> bool:
    for part in loc:
        if not isinstance(tree, dict) or part not in tree:
            return part != loc[0]
        tree = tree[part]
    return True
