"""The card of a bundle: typed, and with one spelling.

A card holds the SHA-256 of the rest of it, and only the spelling that this module writes is read:
any byte that differs is refused.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from ibs_core.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "SCHEMA",
    "SYMBOL",
    "VERSION",
    "Card",
    "Golden",
    "Guardrail",
    "Promotion",
    "Window",
    "parse_card",
    "spell_card",
]

SCHEMA: Final = 1
"""The form of the card; another is refused."""
SYMBOL: Final = r"[A-Z0-9]{1,6}"
VERSION: Final = r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*"
"""A folder's name that leads nowhere else and is not hidden."""

_INSTANT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"
_WRITE_AGAIN = "export the model again"


def _instant_ns(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not re.fullmatch(_INSTANT, value):
        raise ValueError("an instant such as 2024-12-31T22:00:00.000000000Z")
    return int(np.datetime64(value[:-1], "ns").astype(np.int64))


def _instant_text(value: int) -> str:
    return f"{np.datetime64(value, 'ns')}Z"


def _exact(value: float) -> float:
    if float(np.float32(value)) != value:
        raise ValueError("a number that is a float32")
    return value


_LARGEST: Final = float(np.finfo(np.float32).max)
_Instant = Annotated[int, BeforeValidator(_instant_ns), PlainSerializer(_instant_text)]
_Float32 = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST), AfterValidator(_exact)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Text = Annotated[str, Field(min_length=1)]
_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Window(_Frozen):
    """What a model was trained on: whatever lies in it the model has seen.

    Parameters
    ----------
    first_decision, last_label_end : int
        UTC ns; the decision of the first row and the last exit of any row. ISO in the file.
    """

    first_decision: _Instant
    last_label_end: _Instant

    @model_validator(mode="after")
    def _ordered(self) -> Window:
        if self.first_decision >= self.last_label_end:
            raise ValueError("a first decision before the end of the last label")
        return self


class Golden(_Frozen):
    """Rows and the scores that the model must give, bit for bit.

    Parameters
    ----------
    rows : tuple of tuple of float
        (k, n_features), each number a float32.
    scores : tuple of float
        (k,), each a float32 in [0, 1].
    """

    rows: Annotated[tuple[tuple[_Float32, ...], ...], Field(min_length=1, max_length=1000)]
    scores: tuple[Annotated[_Float32, Field(ge=0.0, le=1.0)], ...]

    @model_validator(mode="after")
    def _paired(self) -> Golden:
        if len(self.rows) != len(self.scores) or len({len(row) for row in self.rows}) != 1:
            raise ValueError("rows of one length and a score for each")
        return self

    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return rows (k, n_features) and scores (k,) as float32."""
        return np.array(self.rows, np.float32), np.array(self.scores, np.float32)


class Guardrail(_Frozen):
    """One condition of promotion.

    Parameters
    ----------
    name : str
    achieved : float or None
        What the model reached; None where that has no value.
    limit : float
    passed : bool
    """

    name: _Text
    achieved: float | None
    limit: float
    passed: bool


class Promotion(_Frozen):
    """Why a version was made the one that trades.

    Parameters
    ----------
    time : int
        UTC ns; ISO in the file.
    reason : str
    guardrails : tuple of Guardrail
    forced : bool
        Whether a guardrail that failed was overruled.
    """

    time: _Instant
    reason: _Text
    guardrails: tuple[Guardrail, ...]
    forced: bool

    @model_validator(mode="after")
    def _allowed(self) -> Promotion:
        failed = ", ".join(each.name for each in self.guardrails if not each.passed)
        if failed and not self.forced:
            raise ValueError(f"every guardrail passed, or forced; these failed: {failed}")
        return self


class Card(_Frozen):
    """What a bundle says of itself.

    Parameters
    ----------
    symbol : str
        Root, such as 6E or MES.
    version : str
        The folder's name: letters, digits, ``_``, ``-``, and ``.`` between them.
    created : int
        UTC ns, given by the caller; ISO in the file.
    features : tuple of str
        Columns of the model's input, in order.
    feature_digest : str
        What `feature_set_digest` gave when the model was trained.
    threshold : float
        In (0, 1); a score at or above it enters, both compared as float32.
    window : Window
        What the model was trained on.
    data_digest, contract_map_digest : str
        SHA-256 of the bars and of the contract map.
    generated : bool
        Whether the bars were generated; live refuses such a model.
    strategy : dict
        The rule by which the candidates were made: a model of hourly bars must score no others.
    parameters : dict
        Those of the forest.
    seed : int
    trials : int
        How many were tried, in every command, before this one was chosen.
    metrics : dict
        Results of the judgement.
    libraries : dict
        Versions of what trained and exported the model.
    golden : Golden
    model_sha256 : str
    promotion : Promotion or None
        The last one.
    """

    symbol: Annotated[str, Field(pattern=f"^{SYMBOL}$")]
    version: Annotated[str, Field(pattern=f"^{VERSION}$", max_length=64)]
    created: _Instant
    features: Annotated[tuple[_Name, ...], Field(min_length=1)]
    feature_digest: _Sha256
    threshold: Annotated[float, Field(gt=0.0, lt=1.0)]
    window: Window
    data_digest: _Sha256
    contract_map_digest: _Sha256
    generated: bool
    strategy: dict[str, JsonValue]
    parameters: dict[str, JsonValue]
    seed: Annotated[int, Field(ge=0)]
    trials: Annotated[int, Field(ge=0)]
    metrics: dict[str, JsonValue]
    libraries: Annotated[dict[str, str], Field(min_length=1)]
    golden: Golden
    model_sha256: _Sha256
    promotion: Promotion | None

    @model_validator(mode="after")
    def _consistent(self) -> Card:
        repeated = sorted({name for name in self.features if self.features.count(name) > 1})
        if repeated:
            raise ValueError(f"every feature once; repeated: {', '.join(repeated)}")
        if len(self.golden.rows[0]) != len(self.features):
            raise ValueError(f"golden rows of {len(self.features)} values, one a feature")
        return self


def spell_card(card: Card) -> bytes:
    """Write a card as the bytes of its file.

    Parameters
    ----------
    card : Card

    Returns
    -------
    bytes
        JSON, keys sorted. A float is spelt so that it reads back bit for bit.
    """
    body = {"schema": SCHEMA, **card.model_dump(mode="json")}
    return _json(body | {"sha256": sha256(_json(body)).hexdigest()})


def parse_card(text: bytes, where: str) -> Card:
    """Read the bytes of a card and check all of it.

    Parameters
    ----------
    text : bytes
    where : str
        The file, for the message.

    Returns
    -------
    Card

    Raises
    ------
    DataError
        The first thing that is wrong.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            "card is not JSON", found=str(error), where=where, remedy=_WRITE_AGAIN
        ) from None
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        found = repr(raw.get("schema")) if isinstance(raw, dict) else type(raw).__name__
        raise DataError(
            "card of another form", expected=f"schema {SCHEMA}", found=found, where=where
        )
    body = {key: value for key, value in raw.items() if key not in ("schema", "sha256")}
    try:
        card = Card.model_validate_json(json.dumps(body))
        spelt = spell_card(card)
    except ValidationError as error:
        raise _fault(error, where) from None
    except ValueError:  # of the metrics, say: read as JSON, pydantic lets it pass
        raise DataError("card holds a number that is not finite", where=where) from None
    if text != spelt:  # also a key written twice, or another SHA-256
        found = sha256(text).hexdigest()
        raise DataError(
            "card was changed after it was written",
            expected="the spelling and the SHA-256 that it was written with",
            found=f"a file of SHA-256 {found}",
            where=where,
            remedy=_WRITE_AGAIN,
        )
    return card


def _json(value: dict[str, Any]) -> bytes:
    text = json.dumps(value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False)
    return f"{text}\n".encode()


def _fault(error: ValidationError, where: str) -> DataError:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    kind, said = first["type"], first["msg"]
    said = re.sub(r"^(Value error, |Input should be |String should )", "", said)
    if kind == "extra_forbidden":
        return DataError("unknown key in a card", found=repr(place), where=where)
    if kind == "missing":
        return DataError("card lacks a key", expected=place, where=where)
    found = "" if isinstance(first["input"], dict) else repr(first["input"])[:80]
    subject = f"card's {place}" if place else "card"
    return DataError(subject, expected=said, found=found, where=where)
