"""One candidate of a sweep: its settings, what identifies it, and what it shares with others."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ibs_core.config import Settings
from ibs_core.config_faults import config_error
from ibs_core.errors import ConfigError
from ibs_core.overlays import merge
from ibs_core.sweep.paths import Value, overlay_of, tree_of
from ibs_core.universe import Universe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from ibs_core.config import Strategy
    from ibs_core.contracts import ContractMap

__all__ = ["Candidate", "CandidateMaker"]


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """Settings that are tried.

    Attributes
    ----------
    number : int
        Within the sweep.
    values : tuple of JSON scalars
        Of the swept parameters.
    settings : Settings
    rule : dict
        All that decides its trades and their value, as JSON values.
    digest : str
        SHA-256 of the rule, in hexadecimal.
    sharing : tuple of (str, str)
        Which bars it needs, and which feature rows and schedules of these: candidates that agree share them.
    """

    number: int
    values: tuple[Value, ...]
    settings: Settings
    rule: dict[str, Any]
    digest: str
    sharing: tuple[str, str]


class CandidateMaker:
    """Makes candidates of values, each checked as the configuration of a back-test is.

    Parameters
    ----------
    settings : Settings
        Of the configuration.
    contracts : ContractMap
    roots : sequence of str
        What is traded, in contract-map order.
    start, end : date or None
    paths : sequence of str
        Of the swept parameters.
    """

    def __init__(
        self,
        settings: Settings,
        contracts: ContractMap,
        roots: Sequence[str],
        *,
        start: date | None,
        end: date | None,
        paths: Sequence[str],
    ) -> None:
        # As the files said it: what they left out may depend on what is swept.
        self._given = settings.model_dump(mode="json", by_alias=True, exclude_unset=True)
        self._tree = tree_of(settings)
        self._contracts, self._roots, self._paths = contracts, tuple(roots), tuple(paths)
        self._span = (start, end)
        self._checked: set[str] = set()
        self._made: dict[str, Candidate] = {}
        self._by_rule: dict[str, Candidate] = {}
        self.base = self._rule(settings)

    @property
    def made(self) -> list[Candidate]:
        """Every candidate so far, by number."""
        return list(self._made.values())

    def make(self, values: tuple[Value, ...]) -> Candidate:
        """Return the candidate of a combination: the same however often it is asked for.

        Parameters
        ----------
        values : tuple of JSON scalars

        Returns
        -------
        Candidate

        Raises
        ------
        ConfigError
            The configuration's own: an impossible value, or one that the calendar can never serve; or two
            combinations mean the same.
        """
        key = repr(values)  # 1 and true are equal, their spellings are not
        if key not in self._made:
            candidate = self._candidate(len(self._made), values)
            other = self._by_rule.setdefault(candidate.digest, candidate)
            if other is not candidate:
                raise ConfigError(
                    "--grid",
                    expected="combinations that differ in what is traded",
                    found=f"{list(other.values)} and {list(values)}, which are the same rule",
                    remedy="leave out the values, or the parameter, that change nothing",
                )
            self._made[key] = candidate
        return self._made[key]

    def _candidate(self, number: int, values: tuple[Value, ...]) -> Candidate:
        overlay = overlay_of(self._tree, self._paths, values)
        try:
            settings = Settings.model_validate(merge(self._given, overlay))
        except ValidationError as error:
            raise config_error(error, (), [("--grid", overlay)]) from None
        if settings.model.mode != "off":
            raise ConfigError(
                f"model.mode {settings.model.mode!r}",
                expected="off: a sweep judges the rule without its veto",
                found=repr(settings.model.mode),
                remedy="set model.mode: off for the sweep",
            )
        rule = self._rule(settings)
        self._check(settings, rule)
        digest = hashlib.sha256(_canonical(rule).encode()).hexdigest()
        return Candidate(number, values, settings, rule, digest, self._sharing(settings))

    def overlay(self, values: tuple[Value, ...]) -> dict[str, Any]:
        """Return the configuration that makes a candidate when it is laid over the sweep's own.

        Parameters
        ----------
        values : tuple of JSON scalars

        Returns
        -------
        dict
        """
        return overlay_of(self._tree, self._paths, values)

    def _rule(self, settings: Settings) -> dict[str, Any]:
        common = settings.model_dump(
            mode="json", by_alias=True, include={"costs", "risk", "capital"}
        )
        plain = settings.strategy.model_dump(mode="json", by_alias=True)
        symbols = {}
        for root in self._roots:
            strategy = settings.strategy_of(root)
            own = strategy is not settings.strategy
            spelt = strategy.model_dump(mode="json", by_alias=True) if own else plain
            symbols[root] = {"strategy": spelt, **_contract_of(settings, root)}
        rule: dict[str, Any] = _spelt(common | {"symbols": symbols})
        return rule

    def _check(self, settings: Settings, rule: dict[str, Any]) -> None:
        """Refuse what the calendar can never serve, once for all that say the same of it."""
        timed = [
            [one["strategy"][name] for name in ("signal_bar", "filters")]
            + [one["strategy"]["entry"]["windows"], one["strategy"]["exits"]["flat_by"]]
            + [one["execute"]]
            for one in rule["symbols"].values()
        ]
        key = _canonical(timed)
        if key not in self._checked:
            start, end = self._span
            universe = Universe(settings, self._contracts, start=start, end=end)
            for root in self._roots:
                universe.get(root)
            self._checked.add(key)

    def _sharing(self, settings: Settings) -> tuple[str, str]:
        strategies = [settings.strategy_of(root) for root in self._roots]
        read = [_read_by(each) for each in strategies]
        shared = [
            [*_scheduled_by(strategy), _contract_of(settings, root)]
            for root, strategy in zip(self._roots, strategies, strict=True)
        ]
        bars = _canonical([settings.risk.daily_loss_usd is not None, read])
        return bars, _canonical([bars, shared])


def _contract_of(settings: Settings, root: str) -> dict[str, Any]:
    own = settings.symbols.get(root)
    return {"quantity": own.quantity if own else 1, "execute": own.execute if own else None}


def _read_by(strategy: Strategy) -> list[Any]:
    """Tell which bars a strategy reads: their width, the minutes inside them, other instruments."""
    return [strategy.signal_bar, strategy.exits.protective is not None, list(strategy.filters)]


def _scheduled_by(strategy: Strategy) -> list[Any]:
    """Tell what else columns of feature rows and the calendar depend on."""
    exits, entry = strategy.exits, strategy.entry
    protective = [exits.protective.stop, exits.protective.target] if exits.protective else []
    distances = [exits.stop, exits.target, *protective]
    in_atr = any(each is not None and each.atr is not None for each in distances)
    calendar = [entry.max_wait, exits.flat_by, exits.flat_before_early_close]
    return [entry.pivots, in_atr, *calendar]


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _spelt(value: Any) -> Any:
    """Spell infinite bounds of filters: JSON has no number for them."""
    if isinstance(value, dict):
        return {str(key): _spelt(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spelt(item) for item in value]
    return (
        repr(value)
        if isinstance(value, float) and value in (float("inf"), -float("inf"))
        else value
    )
