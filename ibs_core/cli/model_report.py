"""Tables of a model's card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from ibs_core.cli import options
from ibs_core.training.guardrails import check_guardrails

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ibs_core.bundle import Card, Guardrail

__all__ = ["facts_of", "print_card", "print_guardrails"]

_ROWS = (
    ("out of sample, filtered", ("out_of_sample",)),
    ("out of sample, unfiltered", ("out_of_sample_base",)),
    ("walk-forward, filtered", ("walk_forward", "filtered")),
    ("walk-forward, unfiltered", ("walk_forward", "base")),
    ("holdout, filtered", ("holdout", "filtered")),
    ("holdout, unfiltered", ("holdout", "base")),
)
_COLUMNS = ("trades", "net_usd", "profit_factor", "sharpe_annual", "eras_positive")


def facts_of(card: Card) -> dict[str, Any]:
    """Tell everything that a card says, but the golden rows.

    Parameters
    ----------
    card : Card

    Returns
    -------
    dict
        JSON values, with ``guardrails`` as they stand now.
    """
    facts = card.model_dump(mode="json")
    facts["golden"] = len(card.golden.rows)
    facts["guardrails"] = [each.model_dump() for each in check_guardrails(card)]
    return facts


def print_card(card: Card) -> None:
    """Print the summary of a card.

    Parameters
    ----------
    card : Card
    """
    console = options.console()
    facts = card.model_dump(mode="json")
    table = _table(
        f"{card.symbol} {card.version}", ["", *(key.replace("_", " ") for key in _COLUMNS)]
    )
    for title, path in _ROWS:
        if found := _at(card.metrics, path):
            table.add_row(title, *(_spelt(found.get(key)) for key in _COLUMNS))
    console.print(table)
    luck = _at(card.metrics, ("luck",))
    first, last = (facts["window"][key][:10] for key in ("first_decision", "last_label_end"))
    lines = [
        f"threshold {card.threshold:g}, {len(card.features)} features: {', '.join(card.features)}",
        f"trained on {first} to {last}; {card.trials} trials behind it",
        ", ".join(f"{key} {_spelt(luck.get(key))}" for key in ("dsr", "psr", "pbo")),
    ]
    dropped = card.metrics.get("dropped_splits") or []
    dropped = _at(card.metrics, ("imported",)).get("notes", dropped)
    lines += [f"note: {each}" for each in dropped] if isinstance(dropped, list) else []
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)
    if card.generated:
        console.print("trained on generated data: this shows how the system works, never an edge")
    print_guardrails(check_guardrails(card))
    if card.promotion is not None:
        forced = ", forced" if card.promotion.forced else ""
        when = facts["promotion"]["time"][:10]
        console.print(f"promoted {when}{forced}: {card.promotion.reason}", soft_wrap=True)


def print_guardrails(rails: Sequence[Guardrail]) -> None:
    """Print the conditions of promotion, what was achieved and what was asked.

    Parameters
    ----------
    rails : sequence of Guardrail
    """
    table = _table("Conditions of promotion", ["", "achieved", "limit", "met"])
    for each in rails:
        met = "yes" if each.passed else "no"
        table.add_row(each.name, _spelt(each.achieved), _spelt(each.limit), met)
    options.console().print(table)


def _table(title: str, head: list[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(head):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    return table


def _at(metrics: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    found: Any = metrics
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _spelt(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"
