"""Places in the settings by their dotted names: what stands there, and configurations that set them."""

from __future__ import annotations

import difflib
import types
from typing import TYPE_CHECKING, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel

from ibs_core.config import Settings, Strategy
from ibs_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Value", "overlay_of", "tree_of", "value_at"]

Value = float | int | str | bool | None
"""A JSON scalar; a list index is a part of a path."""

_DISTANCES: Final = frozenset({"stop", "target"})


def tree_of(settings: Settings) -> dict[str, Any]:
    """Return settings as a plain tree, each symbol with its whole strategy.

    Parameters
    ----------
    settings : Settings

    Returns
    -------
    dict
        Of JSON values.
    """
    tree = settings.model_dump(mode="json", by_alias=True)
    for root, symbol in tree["symbols"].items():
        symbol["strategy"] = settings.strategy_of(root).model_dump(mode="json", by_alias=True)
    return tree


def value_at(path: str, settings: Settings) -> Any:
    """Return what stands at a place.

    Parameters
    ----------
    path : str
        Such as ``strategy.entry.ibs.1``; it may lead into a section that is off.
    settings : Settings

    Returns
    -------
    JSON value
        None too where the section is off.

    Raises
    ------
    ConfigError
        There is no such place; the nearest key is named.
    """
    parts = path.split(".")
    node: Any = tree_of(settings)
    kind: type[BaseModel] | None = Settings
    for depth, part in enumerate(parts):
        where = ".".join(parts[:depth])
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                raise _unknown(path, part, where, list(map(str, range(len(node)))))
            node, kind = node[int(part)], None
            continue
        known = _keys(node, kind)
        if part not in known:
            raise _unknown(path, part, where, known)
        node = node.get(part) if isinstance(node, dict) else None
        kind = Strategy if part == "strategy" else _section_of(kind, part)
    if isinstance(node, dict) and not _may_be_off(parts):
        raise ConfigError(
            f"--grid {path}",
            expected="the place of one value",
            found="a section",
            remedy=f"name a key of it: {', '.join(_keys(node, kind)) or 'it has none'}",
        )
    return node


def overlay_of(
    tree: dict[str, Any], paths: Sequence[str], values: Sequence[Value]
) -> dict[str, Any]:
    """Return a configuration that sets places, to be laid over that of the tree.

    Parameters
    ----------
    tree : dict
        As `tree_of` returns it: a list is taken from it whole, with one place changed.
    paths : sequence of str
    values : sequence of JSON scalars
        None in a part of a stop or a target turns the whole off.

    Returns
    -------
    dict
        As a file would hold it.
    """
    overlay: dict[str, Any] = {}
    for path, value in zip(paths, values, strict=True):
        parts = path.split(".")
        if value is None and len(parts) > 1 and parts[-2] in _DISTANCES:
            parts.pop()
        _set(overlay, tree, parts, value)
    return overlay


def _set(overlay: dict[str, Any], tree: Any, parts: Sequence[str], value: Value) -> None:
    node, below = overlay, tree
    for depth, part in enumerate(parts[:-1]):
        below = below.get(part) if isinstance(below, dict) else None
        if isinstance(below, list):
            node[part] = _placed(node.get(part, below), parts[depth + 1 :], value)
            return
        node = node.setdefault(part, {})
    node[parts[-1]] = value


def _placed(items: Any, parts: Sequence[str], value: Value) -> Any:
    """Return a copy of nested lists with one place changed."""
    if not parts:
        return value
    out, place = list(items), int(parts[0])
    out[place] = _placed(out[place], parts[1:], value)
    return out


def _keys(node: Any, kind: type[BaseModel] | None) -> list[str]:
    named = [field.alias or name for name, field in kind.model_fields.items()] if kind else []
    held = list(node) if isinstance(node, dict) else []
    return list(dict.fromkeys([*named, *held]))


def _section_of(kind: type[BaseModel] | None, part: str) -> type[BaseModel] | None:
    """Return the section that stands at a key, also where it is off."""
    if kind is None or part not in kind.model_fields:
        return None
    annotation = kind.model_fields[part].annotation
    united = get_origin(annotation) in (Union, types.UnionType)
    for each in get_args(annotation) if united else (annotation,):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def _may_be_off(parts: Sequence[str]) -> bool:
    return parts[-1] in (*_DISTANCES, "protective")


def _unknown(path: str, part: str, where: str, known: list[str]) -> ConfigError:
    near = difflib.get_close_matches(part, known, n=1, cutoff=0.5)
    if near:
        hint = f"did you mean {'.'.join(filter(None, [where, near[0]]))!r}?"
    else:
        hint = f"there are {', '.join(known)}" if known else "nothing stands below it"
    return ConfigError(
        f"--grid {path}",
        expected=f"a key of {where}" if where else "a key of the configuration",
        found=repr(part),
        remedy=hint,
    )
