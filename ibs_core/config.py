"""Settings: one frozen tree, read from YAML overlays, every key checked.

Money has no hidden default: the defaults below are the published ones of the strategy and are written
into every run's ``config.resolved.yml``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from ibs_core.config_faults import config_error, refuse_secrets
from ibs_core.config_values import (
    MINUTE_NS,
    Clock,
    Count,
    Duration,
    Frozen,
    NotNegative,
    Number,
    OpenBand,
    Percent,
    Positive,
    UnitBand,
    Whole,
    Window,
    none_for_null,
    off_for_false,
    section,
)
from ibs_core.operating import Alerts, KillSwitch, Live, Monitoring, Preflight, Routes
from ibs_core.overlays import merge, read_overlay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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

_OPERATING = ("live", "routes", "killswitch", "preflight", "monitoring", "alerts")
"""Sections that say how live is operated, and nothing that a back-test knows."""


class Distance(Frozen):
    """A distance from a price: percent of it, or multiples of the signal bar's ATR(14)."""

    percent: Percent | None = None
    atr: Positive | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Distance:
        if (self.percent is None) == (self.atr is None):
            raise ValueError("expected either percent or atr")
        return self


class Entry(Frozen):
    """When a position is opened."""

    ibs: UnitBand = (0.0, 0.2)
    windows: Annotated[tuple[Window, ...], Field(max_length=8)] = ((0, 900), (1020, 1440))
    pivots: Annotated[Literal["inside", "higher_high", "none"], BeforeValidator(none_for_null)] = (
        "inside"
    )
    max_wait: Duration = 5 * MINUTE_NS


class Protective(Frozen):
    """Orders resting at the broker."""

    stop: Distance | None = None
    target: Distance | None = None


class Exits(Frozen):
    """When a position is closed; null turns a rule off."""

    stop: Distance | None = Distance(percent=1.0)
    target: Distance | None = Distance(percent=1.0)
    ibs: UnitBand | None = (0.8, 1.0)
    bars: Count | None = 8
    flat_by: Clock | None = 900
    flat_before_early_close: bool = True
    protective: Protective | None = None


class Members(Frozen):
    """A filter by membership."""

    members: tuple[Number, ...] = Field(alias="in", min_length=1, max_length=16)


def _filter_form(value: object) -> str | None:
    if isinstance(value, (dict, Members)):
        return "a set"
    return "a range" if isinstance(value, (list, tuple)) else None


Filter = Annotated[
    Annotated[Members, Tag("a set")] | Annotated[OpenBand, Tag("a range")],
    Discriminator(
        _filter_form,
        custom_error_type="filter",
        custom_error_message="expected a range [low, high] or a set {in: [1, 2]}",
    ),
]


class Strategy(Frozen):
    """One symbol's trading rule."""

    signal_bar: Literal["1m", "5m", "15m", "30m", "1h", "4h", "1d"] = "1h"
    entry: Annotated[Entry, BeforeValidator(section)] = Entry()
    filters: Annotated[dict[str, Filter], Field(max_length=32), BeforeValidator(section)] = Field(
        default_factory=dict
    )
    exits: Annotated[Exits, BeforeValidator(section)] = Exits()
    cooldown_bars: Whole = 0

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


class Model(Frozen):
    """The veto model."""

    mode: Annotated[Literal["off", "shadow", "veto"], BeforeValidator(off_for_false)] = "off"
    bundle: str | None = None


class Costs(Frozen):
    """What trading costs: USD for each contract and side, ticks for each fill."""

    commission_per_side: NotNegative = 1.25
    slippage_ticks: NotNegative = 0.5


class Risk(Frozen):
    """Limits over all symbols; null is off. Quantities are contracts of what is executed."""

    max_positions: Count | None = None
    max_quantity: Count | None = None
    max_total_quantity: Count | None = None
    daily_loss_usd: Positive | None = None
    max_orders_per_minute: Annotated[Count, Field(le=500)] | None = None
    no_entry_before_close: Duration | None = None


class SymbolSettings(Frozen):
    """What differs for one symbol."""

    quantity: Count = 1
    execute: str | None = None
    strategy: Annotated[dict[str, Any], BeforeValidator(section)] = Field(default_factory=dict)


class Settings(Frozen):
    """Everything that a run depends on besides its data."""

    strategy: Annotated[Strategy, BeforeValidator(section)] = Strategy()
    model: Annotated[Model, BeforeValidator(section)] = Model()
    costs: Annotated[Costs, BeforeValidator(section)] = Costs()
    risk: Annotated[Risk, BeforeValidator(section)] = Risk()
    capital: Positive = 100_000.0
    symbols: Annotated[
        dict[str, Annotated[SymbolSettings, BeforeValidator(section)]], BeforeValidator(section)
    ] = Field(default_factory=dict)
    contract_map: str | None = None
    live: Annotated[Live, BeforeValidator(section)] = Live()
    routes: Routes = Field(default_factory=dict)
    killswitch: KillSwitch = None
    preflight: Annotated[Preflight, BeforeValidator(section)] = Preflight()
    monitoring: Annotated[Monitoring, BeforeValidator(section)] = Monitoring()
    alerts: Annotated[Alerts, BeforeValidator(section)] = Alerts()

    def ruled(self) -> Settings:
        """Return what decides trades: how live is operated is left at its defaults.

        Returns
        -------
        Settings
        """
        plain = Settings()
        return self.model_copy(update={name: getattr(plain, name) for name in _OPERATING})

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
        Not YAML, an unknown key, an impossible value, an address or a key, or an unset ``${VARIABLE}``.
    """
    overlays = [(str(path), read_overlay(Path(path))) for path in paths]
    overlays.append(("command line", dict(overrides or {})))
    refuse_secrets(overlays)
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
