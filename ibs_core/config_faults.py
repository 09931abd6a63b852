"""What pydantic finds wrong with a configuration, said in our words: place, expected, found, remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ibs_core.errors import ConfigError
from ibs_core.secret import HIDDEN, PLAIN, is_secret, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

__all__ = ["config_error", "refuse_secrets"]

# Sections that name secrets: where the secret itself was written by mistake, nothing of it is repeated.
_PRIVATE = ("routes", "alerts", "monitoring", "killswitch")

# What a key takes, said where its value has the wrong shape.
_DISTANCE = "{percent: 1.0} or {atr: 1.0}, or null for off"
_FORMS = {
    "stop": _DISTANCE,
    "target": _DISTANCE,
    "protective": "{stop: {percent: 2.0}, target: {percent: 3.0}}, or null for off",
    "ibs": "a band [low, high] within 0 and 1",
    "windows": 'windows such as [["00:00", "15:00"], ["17:00", "24:00"]], eight at most',
    "filters": "filters such as {bar_rsi2: [0, 40]}, 32 at most",
    "a range": "a range [low, high]",
    "in": "one to sixteen numbers, such as {in: [1, 2]}",
    "symbols": "symbols such as {ES: {quantity: 1}}",
}
_SHAPES = {"model_type", "dict_type", "tuple_type", "missing", "too_short", "too_long"}
_TYPES = {
    "float": "a number",
    "finite": "a finite number",
    "int": "a whole number",
    "bool": "true or false",
    "string": "text",
}
_LIMITS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("of at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("of at most", "le"),
}


def refuse_secrets(overlays: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Refuse addresses and keys wherever they stand: runs keep their settings, and messages show them.

    Parameters
    ----------
    overlays : sequence of (str, dict)
        Names and trees of the files.

    Raises
    ------
    ConfigError
        The message tells the place and holds nothing of what stands there.
    """
    places = [f"{name}: {place}" for name, tree in overlays for place in _secrets(tree)]
    if places:
        raise ConfigError(
            f"configuration: {'; '.join(dict.fromkeys(places))}",
            expected="no address and no key",
            found=HIDDEN,
            remedy="write the variable's NAME, without ${}",
        )


def _secrets(tree: Any, place: str = "") -> Iterator[str]:
    """Yield where a tree holds an address or a key, as a value or as a key of its own."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if not place and key == "killswitch":  # whatever stands there is on, and is not kept
                continue
            is_plain = not is_secret(str(key))
            below = f"{place}.{key}" if place else str(key)
            yield from _secrets(value, below) if is_plain else [f"a key of {place or 'the file'}"]
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from _secrets(value, place)
    elif isinstance(tree, str) and is_secret(tree):
        yield place


def config_error(
    error: ValidationError,
    prefix: Sequence[str],
    overlays: Sequence[tuple[str, dict[str, Any]]],
) -> ConfigError:
    """Tell every fault with its place.

    Parameters
    ----------
    error : pydantic.ValidationError
    prefix : sequence of str
        Where the validated part stands in the configuration.
    overlays : sequence of (str, dict)
        Names and trees of the files; the one named is the last that sets the key.

    Returns
    -------
    ConfigError
    """
    lines = [
        _line([str(part) for part in (*prefix, *fault["loc"])], fault, overlays)
        for fault in error.errors(include_url=False)
    ]
    return ConfigError("configuration: " + "; ".join(dict.fromkeys(lines)))


def _line(
    loc: list[str], fault: ErrorDetails, overlays: Sequence[tuple[str, dict[str, Any]]]
) -> str:
    path = [part for part in loc if part not in ("a set", "a range", "[key]")]
    is_private = path[:1] != [] and path[0] in _PRIVATE
    if fault["type"] == "unknown_key":
        key = str(fault["ctx"]["key"])
        found = HIDDEN if is_private else shown(key)
        text = f"expected a known key, found {found}; {fault['msg']}"
        path += [] if is_private else [key]
    elif fault["type"] == "missing" or (is_private and isinstance(fault["input"], dict)):
        text = f"expected {_expected(fault, loc)}"
    else:
        found = HIDDEN if is_private else shown(fault["input"])
        text = f"expected {_expected(fault, loc)}, found {found}"
    depth, last = max(
        ((_depth(tree, path), i) for i, (_, tree) in enumerate(overlays)), default=(0, 0)
    )
    file = f"{overlays[last][0]}: " if depth else ""
    place = [each for each in path if not is_private or PLAIN.fullmatch(each)]
    return f"{file}{'.'.join(place)}: {text}"


def _expected(fault: ErrorDetails, loc: Sequence[str]) -> str:
    kind, context = fault["type"], fault.get("ctx", {})
    key = next(part for part in reversed(loc) if not part.isdigit())
    if kind in _SHAPES:
        return _FORMS.get(key, "a mapping of keys to values")
    if kind in _LIMITS:
        word, limit = _LIMITS[kind]
        return f"a number {word} {context[limit]}"
    if kind == "literal_error":
        return str(context["expected"])
    said = fault["msg"].removeprefix("Value error, ").removeprefix("expected ")
    return _TYPES.get(kind.split("_")[0], said)


def _depth(tree: Any, loc: Sequence[str]) -> int:
    """Count how far a tree goes along a path."""
    for depth, part in enumerate(loc):
        below = {str(key): value for key, value in tree.items()} if isinstance(tree, dict) else {}
        if part not in below:
            return depth
        tree = below[part]
    return len(loc)
