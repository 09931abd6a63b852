"""The rules of a trading account that somebody else owns, as data: what ends it, and what it must earn.

One rule set serves twice: Monte Carlo asks how often trades keep it, and `unkept` asks whether a configuration
holds live to it, with the guards of ``risk`` and the exit ``flat_by``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from ibs_core.config import Risk
from ibs_core.config_faults import config_error
from ibs_core.config_values import Clock, Count, Frozen, Number, Positive, Whole
from ibs_core.errors import EnvironmentFault
from ibs_core.overlays import read_overlay

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ibs_core.config import Settings

__all__ = ["DailyLoss", "Drawdown", "PropRules", "load_rules", "risk_of", "unkept"]

_OPENING: Final = 17 * 60  # minute of the exchange's day at which most sessions begin
_BAR_MINUTES: Final = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "1d": 1440}


class Drawdown(Frozen):
    """The floor under equity: so far below its highest, until it locks.

    ``trails`` says of what the highest is: of every instant, of session closes, or of the start alone.
    ``locks_at_usd`` is the P&L, from the start, above which the floor never rises; null never locks.
    """

    usd: Positive
    trails: Literal["intraday", "close", "never"] = "close"
    locks_at_usd: Number | None = None

    @model_validator(mode="after")
    def _locks_above_its_start(self) -> Drawdown:
        if self.locks_at_usd is not None and self.locks_at_usd < -self.usd:
            raise ValueError(f"expected locks_at_usd of at least {-self.usd:g}, where it starts")
        return self


class DailyLoss(Frozen):
    """The most that a session may lose, and whether reaching it ends the account or the session alone."""

    usd: Positive
    ends: Literal["account", "session"] = "account"


class PropRules(Frozen):
    """A rule set; null is off. Quantities are contracts of what is executed, P&L is net of all costs."""

    name: Annotated[str, Field(min_length=1)]
    drawdown: Drawdown | None = None
    daily_loss: DailyLoss | None = None
    profit_target_usd: Positive | None = None
    min_trading_days: Whole = 0
    best_day_share: Annotated[Number, Field(gt=0, le=1)] | None = None
    flat_by: Clock | None = None
    max_quantity: Count | None = None
    max_total_quantity: Count | None = None

    @field_validator("flat_by")
    @classmethod
    def _before_the_next_session(cls, minute: int | None) -> int | None:
        if minute is not None and minute >= _OPENING:
            raise ValueError(f'expected an exchange time before "{_clock(_OPENING)}"')
        return minute


def load_rules(path: Path) -> PropRules:
    """Read a rule set.

    Parameters
    ----------
    path : Path
        YAML. Rules that say no name take the file's.

    Returns
    -------
    PropRules

    Raises
    ------
    EnvironmentFault
        The file cannot be read.
    ConfigError
        Not YAML, an unknown key, or an impossible value.
    """
    try:
        tree = read_overlay(path)
    except EnvironmentFault as fault:
        raise EnvironmentFault(
            f"file of rules {str(path)!r}",
            expected=fault.expected,
            found=fault.found,
            remedy="check the path given with --rules",
        ) from None
    try:
        return PropRules.model_validate({"name": path.stem, **tree})
    except ValidationError as error:
        raise config_error(error, (), [(str(path), tree)]) from None


def risk_of(rules: PropRules) -> Risk:
    """Return the guards that hold live to the part of a rule set that has guards.

    Parameters
    ----------
    rules : PropRules

    Returns
    -------
    Risk
        The daily loss and the quantities; the rest is off.
    """
    return Risk(
        daily_loss_usd=None if rules.daily_loss is None else rules.daily_loss.usd,
        max_quantity=rules.max_quantity,
        max_total_quantity=rules.max_total_quantity,
    )


def unkept(rules: PropRules, settings: Settings, roots: Iterable[str]) -> tuple[str, ...]:
    """Tell which rules a configuration does not hold live to.

    Parameters
    ----------
    rules : PropRules
    settings : Settings
    roots : iterable of str
        The symbols that are traded.

    Returns
    -------
    tuple of str
        A sentence for each; empty where live keeps them all. The drawdown and what must be earned are nothing
        that a configuration could keep.
    """
    roots = tuple(roots)
    return (*_unkept_risk(rules, settings, roots), *_unkept_clock(rules, settings, roots))


def _unkept_risk(rules: PropRules, settings: Settings, roots: tuple[str, ...]) -> Iterator[str]:
    quantities = {
        root: settings.symbols[root].quantity if root in settings.symbols else 1 for root in roots
    }
    asked = risk_of(rules)
    # What is never traded larger needs no guard; a loss is always possible.
    largest = {
        "daily_loss_usd": float("inf"),
        "max_quantity": max(quantities.values(), default=0),
        "max_total_quantity": sum(quantities.values()),
    }
    for name, most in largest.items():
        limit, guard = getattr(asked, name), getattr(settings.risk, name)
        if limit is not None and most > limit and (guard is None or guard > limit):
            found = "off" if guard is None else f"{guard:g}"
            yield f"risk.{name} is {found}, the rule is {limit:g}"


def _unkept_clock(rules: PropRules, settings: Settings, roots: tuple[str, ...]) -> Iterator[str]:
    if rules.flat_by is None:
        return
    for root in roots:
        strategy = settings.strategy_of(root)
        exits = strategy.exits
        if exits.flat_by is None:
            yield f"{root} has no flat_by, the rule is {_clock(rules.flat_by)}"
            continue
        # It leaves at the end of its own bar; bars divide the session from where it begins.
        width = _BAR_MINUTES[strategy.signal_bar]
        left = -(-_into_session(exits.flat_by) // width) * width
        if left > _into_session(rules.flat_by):
            yield (
                f"{root} is flat by {_clock(exits.flat_by)}, at the end of a bar of {strategy.signal_bar}; "
                f"the rule is {_clock(rules.flat_by)}"
            )
        if not exits.flat_before_early_close:
            yield f"{root} holds over early closes (flat_before_early_close is off)"


def _into_session(minute: int) -> int:
    return (minute - _OPENING) % 1440


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
