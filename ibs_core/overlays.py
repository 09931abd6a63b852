"""YAML overlays: each file to a plain tree, variables expanded, later files laid over earlier ones."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import yaml

from ibs_core.errors import ConfigError, EnvironmentFault
from ibs_core.secret import HIDDEN, is_secret, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["merge", "read_overlay"]

# Replaced whole by an overlay, never merged key by key: {percent: 1} under {atr: 1} must not give both.
_ATOMS = frozenset({"stop", "target"})
# Where null turns a rule off; an empty section elsewhere changes nothing.
_NULLABLE = frozenset({"stop", "target", "protective"})


class _Loader(yaml.SafeLoader):
    """Refuses a key that is written twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  (the base class calls it so)
        seen: set[str] = set()
        for key, _ in node.value:  # before the base class expands `<<`, which may be overridden
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                problem = f"the key {shown(key.value)} twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen |= {key.value} if isinstance(key, yaml.ScalarNode) else set()
        return super().construct_mapping(node, deep=deep)


def read_overlay(path: Path) -> dict[str, Any]:
    """Read one file.

    Parameters
    ----------
    path : pathlib.Path

    Returns
    -------
    dict
        Plain values, ``${VARIABLE}`` replaced at any depth.

    Raises
    ------
    EnvironmentFault
        The file cannot be read.
    ConfigError
        Not YAML, a key twice, not a mapping, or an unset ``${VARIABLE}``.
    """
    subject = f"configuration file {shown(str(path))}"
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  (a SafeLoader)
    except OSError as error:
        found = error.strerror or str(error)
        remedy = "check the path given with --config"
        raise EnvironmentFault(
            subject, expected="a readable file", found=found, remedy=remedy
        ) from None
    except UnicodeDecodeError as error:
        found = f"other bytes at offset {error.start}"
        remedy = "give a YAML file with --config"
        raise ConfigError(subject, expected="UTF-8 text", found=found, remedy=remedy) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        found = str(getattr(error, "problem", None) or error).splitlines()[0]
        found = HIDDEN if is_secret(found) else found  # a tag, or an alias
        raise ConfigError(subject, expected="valid YAML", found=found, where=where) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        expected = "a mapping of keys to values, such as `capital: 100000`"
        raise ConfigError(subject, expected=expected, found=shown(tree)[:60])
    # A kill switch whose placeholder nobody set is on, not a fault: see `killswitch`.
    return {
        key: value if key == "killswitch" else _expanded(value, f"{path}: {key}")
        for key, value in tree.items()
    }


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one tree over another, key by key.

    Parameters
    ----------
    base, overlay : mapping
        The overlay wins. Its lists replace; so do its stops and targets.

    Returns
    -------
    dict
    """
    out = dict(base)
    for key, value in overlay.items():
        below = out.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and key not in _ATOMS:
            out[key] = merge(below, value)
        elif not (isinstance(below, dict) and value is None and key not in _NULLABLE):
            out[key] = value
    return out


def _expanded(value: Any, where: str) -> Any:
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
                where=HIDDEN if is_secret(where) else where,
                remedy="set it or remove the placeholder",
            )
        return found

    return re.sub(r"\$\{(\w+)\}", look_up, value)
