"""Bundles on disk: written whole or not at all, and never over one another."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from ibs_core.bundle.card import SYMBOL, VERSION, Card, parse_card, spell_card
from ibs_core.errors import ConfigError, DataError, EnvironmentFault, file_faults

if TYPE_CHECKING:
    from pathlib import Path

    from ibs_core.bundle.card import Promotion

__all__ = [
    "Bundle",
    "Listed",
    "list_bundles",
    "load_bundle",
    "promote",
    "promoted",
    "read_file",
    "versions",
    "write_bundle",
]

_CARD, _MODEL, _PROMOTED = "card.json", "model.onnx", "promoted.json"
_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A bundle as it was read.

    Parameters
    ----------
    folder : Path
    card : Card
    model : bytes
        The ONNX file, of the SHA-256 that the card names.
    """

    folder: Path
    card: Card
    model: bytes


@dataclass(frozen=True, slots=True)
class Listed:
    """A version in the folder of models, not read.

    Parameters
    ----------
    symbol, version : str
    folder : Path
    promoted : bool
        Whether it is the one that trades.
    """

    symbol: str
    version: str
    folder: Path
    promoted: bool


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle and check all that can be checked without scoring.

    Parameters
    ----------
    folder : Path
        ``…/<SYMBOL>/<version>``.

    Returns
    -------
    Bundle

    Raises
    ------
    EnvironmentFault
        A file is missing or unreadable, or a git-lfs pointer stands in its place.
    DataError
        The card or the model is not what was written.
    """
    card = parse_card(read_file(folder / _CARD), str(folder / _CARD))
    place = folder.resolve()
    if (place.parent.name, place.name) != (card.symbol, card.version):
        raise DataError(
            "bundle lies in a folder of another name",
            expected=f"{card.symbol}/{card.version}",
            found=f"{place.parent.name}/{place.name}",
            where=str(folder),
        )
    model = read_file(folder / _MODEL)
    _check_model(card, model, folder / _MODEL)
    return Bundle(folder, card, model)


def write_bundle(models: Path, card: Card, model: bytes) -> Path:
    """Write a bundle, whole or not at all.

    Parameters
    ----------
    models : Path
        The folder of all models; created when missing.
    card : Card
    model : bytes
        The ONNX file, of the SHA-256 that the card names.

    Returns
    -------
    Path
        ``models/<symbol>/<version>``.

    Raises
    ------
    ConfigError
        The version exists: none is ever written over.
    DataError
        The card does not fit the model.
    EnvironmentFault
        The disk is full, or the folder may not be written.
    """
    home = models / card.symbol
    folder = home / card.version
    text = spell_card(card)
    assert parse_card(text, str(folder)) == card
    _check_model(card, model, folder / _MODEL)
    with file_faults(f"bundle cannot be written below {str(models)!r}"):
        home.mkdir(parents=True, exist_ok=True)
        hidden = home / f".{card.version}.{secrets.token_hex(4)}.tmp"
        try:
            hidden.mkdir()
            _write(hidden / _MODEL, model)
            _write(hidden / _CARD, text)
            _sync(hidden)
            _publish(hidden, folder)
        except BaseException:  # Ctrl-C too
            shutil.rmtree(hidden, ignore_errors=True)
            raise
        _sync(home)
    return folder


def promote(models: Path, symbol: str, version: str, promotion: Promotion) -> Path:
    """Make a version the one that trades, and record why in its card.

    The card is replaced first. Of two processes that promote at once the later wins; neither leaves a
    half-written file.

    Parameters
    ----------
    models : Path
    symbol, version : str
    promotion : Promotion

    Returns
    -------
    Path
        The version's folder.

    Raises
    ------
    ConfigError
        No bundle of that name.
    DataError, EnvironmentFault
        As `load_bundle`.
    """
    folder = _home(models, symbol) / _checked(version, VERSION, "version")
    if not folder.is_dir():
        known = [each.name for each in versions(models, symbol)]
        raise ConfigError(
            f"no bundle of {symbol} bears this version",
            expected=" or ".join(known),
            found=repr(version),
            where=str(models),
        )
    card = load_bundle(folder).card.model_copy(update={"promotion": promotion})
    record = json.dumps({"symbol": symbol, "version": version}, indent=1) + "\n"
    with file_faults(f"promotion cannot be written below {str(models)!r}"):
        _replace(folder / _CARD, spell_card(card))
        _replace(folder.parent / _PROMOTED, record.encode())
    return folder


def promoted(models: Path, symbol: str) -> Path | None:
    """Find the version of a symbol that trades.

    Parameters
    ----------
    models : Path
    symbol : str

    Returns
    -------
    Path or None
        Its folder; None when none was promoted.

    Raises
    ------
    ConfigError
        That is no symbol.
    DataError
        ``promoted.json`` is damaged, or names a version that is not there.
    EnvironmentFault
        It cannot be read.
    """
    path = _home(models, symbol) / _PROMOTED
    if not path.exists():
        return None
    try:
        record = json.loads(read_file(path))
    except ValueError:
        record = None
    version = record.get("version") if isinstance(record, dict) else None
    sound = isinstance(version, str) and re.fullmatch(VERSION, version)
    if not sound or record != {"symbol": symbol, "version": version}:
        raise DataError(
            "record of the promoted version is damaged",
            expected=f"the symbol {symbol} and a version",
            where=str(path),
            remedy="promote a version again",
        )
    folder = path.parent / str(version)
    if not folder.is_dir():
        raise DataError(
            "promoted version is not there",
            expected=str(folder),
            where=str(path),
            remedy="put it back, or promote another",
        )
    return folder


def list_bundles(models: Path) -> list[Listed]:
    """List every version of every symbol, without reading it.

    Parameters
    ----------
    models : Path

    Returns
    -------
    list of Listed
        By symbol and version; empty when the folder does not exist.

    Raises
    ------
    DataError, EnvironmentFault
        As `promoted`.
    """
    found = []
    for home in sorted(models.glob("*/")):
        if re.fullmatch(SYMBOL, home.name) and (folders := versions(models, home.name)):
            trades = promoted(models, home.name)
            found += [Listed(home.name, each.name, each, each == trades) for each in folders]
    return found


def versions(models: Path, symbol: str) -> list[Path]:
    """List the versions of a symbol, whatever is promoted or damaged, without reading them.

    Parameters
    ----------
    models : Path
    symbol : str

    Returns
    -------
    list of Path
        Folders, by name; empty when there is none.

    Raises
    ------
    ConfigError
        That is no symbol.
    """
    cards = sorted(_home(models, symbol).glob(f"*/{_CARD}"))
    return [card.parent for card in cards if re.fullmatch(VERSION, card.parent.name)]


def _home(models: Path, symbol: str) -> Path:
    return models / _checked(symbol, SYMBOL, "symbol")


def _checked(name: str, pattern: str, what: str) -> str:
    """Let no name lead out of the folder of models."""
    if not re.fullmatch(pattern, name):
        raise ConfigError(
            f"{what} of a bundle", expected=f"a name like {pattern}", found=repr(name)
        )
    return name


def _check_model(card: Card, model: bytes, path: Path) -> None:
    found = sha256(model).hexdigest()
    if found != card.model_sha256:
        raise DataError(
            "model is not the one of its card",
            expected=f"SHA-256 {card.model_sha256}",
            found=found,
            where=str(path),
        )


def _publish(hidden: Path, folder: Path) -> None:
    try:
        hidden.rename(folder)  # replaces no folder that holds a file
    except OSError:
        if not folder.exists():
            raise
        raise ConfigError(
            "version of a bundle exists",
            found=str(folder),
            remedy="choose another version: none is ever written over",
        ) from None


def read_file(path: Path) -> bytes:
    """Read a file of a bundle.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bytes

    Raises
    ------
    EnvironmentFault
        It is missing or unreadable, or a git-lfs pointer stands in its place.
    """
    with file_faults(f"bundle file {path.name} cannot be read"):
        content = path.read_bytes()
    if content.startswith(_POINTER):
        raise EnvironmentFault(
            "a git-lfs pointer stands in the place of a file",
            found=f"{len(content)} bytes",
            where=str(path),
            remedy="run `git lfs pull`",
        )
    return content


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        _write(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
