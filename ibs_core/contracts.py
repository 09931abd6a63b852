"""The contract map: what a root is, and what a tick of it is worth.

One file holds it (``Data/Databento_contract_map.yml``); unknown symbols are refused, never guessed.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from dataclasses import asdict, dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from ibs_core.errors import ConfigError, EnvironmentFault, UnknownSymbolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Contract", "ContractMap", "load_contract_map"]

MONTH_LETTERS = "FGHJKMNQUVXZ"
SESSION_GROUPS = ("equity", "energy", "metals", "fx", "rates", "grains", "crypto", "cash_index")
NANO = 10**9

_FOLDERS = (Path(__file__).parent / "_data", Path(__file__).parents[1] / "Data")  # wheel, tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """One root of the map; prices are in the exchange's quotation unit.

    An index has no contract: its vendor and order fields are empty, and nothing can route it. A feed is
    read by features only, so it has no money either.

    Parameters
    ----------
    root, description, exchange, source : str
        ``source`` is the page where tick and tick value can be checked.
    kind : {"future", "index", "feed"}
    roll : {"volume", "none"}
        ``volume``: from a session's open, the contract that traded most in the previous session,
        never one that expires before the contract in force.
    session : str, one of ``SESSION_GROUPS``
    tick_size : float, price units, > 0
    tick_nano : int, tick in units of 1e-9, exact, > 0
    tick_value_usd : float, USD per contract, > 0; 0 for a feed
    dataset, continuous, parent : str, Databento's names
    months : str, letters of the delivery months from which the roll rule chooses
    traderspost_ticker, traderspost_description : str
    pair : str or None, root of the pair features
    full_size : str or None, of a micro the root of which it is a fraction
    allow_nonpositive : bool, whether prices at or below zero are market data
    """

    root: str
    kind: Literal["future", "index", "feed"]
    description: str
    exchange: str
    source: str
    roll: str
    session: str
    tick_size: float
    tick_nano: int
    tick_value_usd: float
    dataset: str = ""
    continuous: str = ""
    parent: str = ""
    months: str = ""
    traderspost_ticker: str = ""
    traderspost_description: str = ""
    pair: str | None = None
    full_size: str | None = None
    allow_nonpositive: bool = False

    @property
    def point_value_usd(self) -> float:
        """USD per contract for one unit of price: tick value / tick size, rounded once."""
        return float(Fraction(repr(self.tick_value_usd)) * NANO / self.tick_nano)

    def round_to_tick(self, price: float) -> float:
        """Return the nearest price of the grid, half a tick up.

        The float is the one that a feed's integer price gives when divided by 1e9. ``price`` must
        be finite.
        """
        n_ticks = (2 * round(price * NANO) + self.tick_nano) // (2 * self.tick_nano)
        return n_ticks * self.tick_nano / NANO

    def is_on_tick(self, price: float) -> bool:
        """Tell whether a finite price lies on the grid, to 1e-9 of a price unit."""
        return round(price * NANO) % self.tick_nano == 0


@dataclass(frozen=True, slots=True, eq=False)  # compared by identity, so that it can key a cache
class ContractMap:
    """All contracts, in the order that breaks ties.

    Parameters
    ----------
    contracts : Mapping of str to Contract
    reference_feeds : Mapping of str to Contract
        Series that features may read and nothing trades.
    digest : str
        SHA-256 of the content: order counts, comments and layout do not.
    """

    contracts: Mapping[str, Contract]
    reference_feeds: Mapping[str, Contract]
    digest: str

    def get(self, root: str) -> Contract:
        """Return the contract of a root, or raise UnknownSymbolError."""
        if root not in self.contracts:
            raise self.unknown(root)
        return self.contracts[root]

    def readable(self, root: str) -> Contract:
        """Return the contract of a root, or a reference feed: whatever features may read."""
        return self.reference_feeds[root] if root in self.reference_feeds else self.get(root)

    def order(self, root: str) -> int:
        """Return the place of a root in the map, from 0."""
        return list(self.contracts).index(self.get(root).root)

    def unknown(self, symbol: str) -> UnknownSymbolError:
        """Return the error for a symbol that the map does not hold."""
        found, remedy = repr(symbol), _nearest(symbol, self.contracts)
        if symbol in self.reference_feeds:
            found, remedy = f"{found}, a reference feed, which is never traded", ""
        expected = "a root of the contract map"
        return UnknownSymbolError("unknown symbol", expected=expected, found=found, remedy=remedy)


def load_contract_map(path: Path | None = None) -> ContractMap:
    """Read a contract map and check all of it.

    Parameters
    ----------
    path : Path, optional
        YAML or its subset JSON. Default: the map that comes with this project.

    Raises
    ------
    EnvironmentFault
        The file is missing or unreadable.
    ConfigError
        Its content is wrong; the message lists every fault.
    """
    if path is None:
        paths = [folder / "Databento_contract_map.yml" for folder in _FOLDERS]
        path = next((each for each in paths if each.exists()), paths[-1])
    try:
        raw = _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        found = error.strerror or str(error)
        raise EnvironmentFault("no contract map", found=found, where=str(path)) from error
    except (ValueError, yaml.YAMLError) as error:
        found = " ".join(str(error).split())
        raise ConfigError("malformed contract map", found=found, where=str(path)) from error
    if faults := list(_faults(raw)):
        raise ConfigError(f"contract map {path}: " + "\n  ".join(map(str, faults)))
    contracts = {root: _contract(root, entry) for root, entry in raw["contracts"].items()}
    feeds = {name: _feed(name, entry) for name, entry in raw.get("reference_feeds", {}).items()}
    every = [[asdict(each) for each in group.values()] for group in (contracts, feeds)]
    content = json.dumps(every)
    return ContractMap(contracts, feeds, hashlib.sha256(content.encode()).hexdigest())


def _parse(text: str) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)  # parsing in C is 10 times faster
    root = loader.get_single_node()
    mappings = [root] if isinstance(root, yaml.MappingNode) else []
    for node in mappings:
        keys = [key.value for key, _ in node.value]
        for i, key in enumerate(keys):  # a plain load would keep the last of two and say nothing
            if key in keys[:i]:
                line = node.value[i][0].start_mark.line + 1
                raise ValueError(f"key {key!r} twice, in line {line}")
        inner = [value for _, value in node.value if isinstance(value, yaml.MappingNode)]
        mappings += [each for each in inner if each not in mappings]
    return None if root is None else loader.construct_document(root)


# Path inside an entry -> pattern of the value, and the pattern in words.
_Schema = dict[str, tuple[str, str]]
_TEXT = (r"\w.*", "a text")
_ROOT = (r"[A-Z0-9]{1,6}", "a root in capitals")
_DECIMAL = (r"(?=.*[1-9])\d{1,6}(\.\d{1,9})?", "a decimal above 0 with at most 9 places, in quotes")
_OPTIONAL = ("pair", "full_size", "allow_nonpositive")
_FEED: _Schema = {
    "description": _TEXT,
    "session": ("|".join(SESSION_GROUPS), "one of " + ", ".join(SESSION_GROUPS)),
    "tick_size": _DECIMAL,
}


def _schema(root: str, kind: object) -> _Schema:
    both = {
        "description": _TEXT,
        "kind": ("future|index", "future or index"),
        "exchange": _TEXT,
        "source": (r"https://\S+", "an https address"),
        "session": ("|".join(SESSION_GROUPS), "one of " + ", ".join(SESSION_GROUPS)),
        "tick_size": _DECIMAL,
        "tick_value_usd": _DECIMAL,
        "pair": _ROOT,
        "full_size": _ROOT,
        "allow_nonpositive": ("True|False", "true or false"),
    }
    if kind == "index":
        return both | {"roll.rule": ("none", "none, for an index has no contracts")}
    return both | {
        "dataset": _TEXT,
        "symbology.continuous": (rf"{root}\.v\.0", f"{root}.v.0, the series of the volume rule"),
        "symbology.parent": (rf"{root}\.FUT", f"{root}.FUT"),
        "roll.rule": ("volume", "volume"),
        "months": ("(?=.)" + "".join(f"{x}?" for x in MONTH_LETTERS), f"part of {MONTH_LETTERS}"),
        "traderspost.ticker": _ROOT,
        "traderspost.description": _TEXT,
    }


def _faults(raw: Any) -> Iterator[ConfigError]:
    top = raw if isinstance(raw, dict) else {}
    roots, feeds = top.get("contracts"), top.get("reference_feeds", {})
    yield from _unknown_keys(top, ("version", "contracts", "reference_feeds"), "")
    if top.get("version") != 1:
        yield _fault("version", "1", top.get("version"))
    if not isinstance(roots, dict) or not roots:
        yield _fault("contracts", "a mapping of roots", roots)
        return
    for root, entry in roots.items():
        if not isinstance(root, str) or not re.fullmatch(_ROOT[0], root):
            yield _fault(f"contracts.{root}", _ROOT[1], root)
        elif not isinstance(entry, dict):
            yield _fault(f"contracts.{root}", "a mapping", entry)
        else:
            yield from _entry_faults(root, _flat(entry), roots)
    if not isinstance(feeds, dict):
        yield _fault("reference_feeds", "a mapping of names", feeds)
        return
    for name, entry in feeds.items():
        where = f"reference_feeds.{name}"
        if name in roots or not isinstance(name, str) or not re.fullmatch(_ROOT[0], name):
            yield _fault(where, "a name in capitals that no contract has", name)
        elif not isinstance(entry, dict):
            yield _fault(where, "a mapping", entry)
        else:
            yield from _value_faults(f"{where}.", _flat(entry), _FEED)


def _entry_faults(root: str, flat: dict[str, str], roots: dict[str, Any]) -> Iterator[ConfigError]:
    where = f"contracts.{root}."
    yield from _value_faults(where, flat, _schema(root, flat.get("kind")))
    for key in ("pair", "full_size"):
        if key in flat and (flat[key] == root or flat[key] not in roots):
            yield _fault(where + key, "another root of this map", flat[key], roots)


def _value_faults(where: str, flat: dict[str, str], schema: _Schema) -> Iterator[ConfigError]:
    yield from _unknown_keys(flat, schema, where)
    for key, (pattern, expected) in schema.items():
        if key in flat and not re.fullmatch(pattern, flat[key]):
            yield _fault(where + key, expected, flat[key])
        elif key not in flat and key not in _OPTIONAL:
            yield _fault(where + key, expected, None)


def _unknown_keys(given: Iterable[str], known: Iterable[str], where: str) -> Iterator[ConfigError]:
    for key in given:
        if key not in known:
            yield _fault(f"{where}{key}", "a known key", key, known)


def _fault(path: str, expected: str, found: Any, known: Iterable[str] = ()) -> ConfigError:
    shown = "nothing" if found is None else repr(found)
    return ConfigError(path, expected=expected, found=shown, remedy=_nearest(str(found), known))


def _flat(entry: dict[str, Any]) -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in entry.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        flat |= {f"{key}.{part}".rstrip("."): str(each) for part, each in parts if each is not None}
    return flat


def _contract(root: str, entry: dict[str, Any]) -> Contract:
    fields: dict[str, Any] = {
        key.removeprefix("symbology.").removesuffix(".rule").replace(".", "_"): value
        for key, value in _flat(entry).items()
    }
    fields["tick_nano"] = int(Decimal(fields["tick_size"]) * NANO)
    fields["tick_size"] = fields["tick_nano"] / NANO
    fields["tick_value_usd"] = float(fields["tick_value_usd"])
    fields["allow_nonpositive"] = fields.get("allow_nonpositive") == "True"
    return Contract(root=root, **fields)


def _feed(name: str, entry: dict[str, Any]) -> Contract:
    nothing = {"kind": "feed", "exchange": "", "source": "", "roll": "none", "tick_value_usd": "0"}
    return _contract(name, nothing | entry)


def _nearest(word: str, known: Iterable[str]) -> str:
    names = [str(name) for name in known]
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.4)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known are {', '.join(names)}" if names else ""
