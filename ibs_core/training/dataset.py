"""The dataset: one Parquet of labelled candidates with their features, which says what it was made from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import polars as pl

import ibs_core
from ibs_core.bundle import feature_set_digest
from ibs_core.candidate_table import candidates
from ibs_core.catalogue import resolve
from ibs_core.config import resolved_yaml
from ibs_core.errors import ConfigError, DataError
from ibs_core.parquet_file import environment, join_parquet, marks_of, refuse_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.market_data import BarSource

__all__ = ["Dataset", "Origin", "open_dataset", "write_dataset"]

_MARK: Final = "ibs.dataset"
_ROWS: Final = "ibs.dataset.rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where candidates come from.

    Attributes
    ----------
    data_digest, contract_map_digest : str
        SHA-256 of the bars and of the contract map.
    strategies : dict
        The rule by which each symbol's candidates were made, as JSON values.
    generated : bool
        Whether the bars were generated.
    """

    data_digest: str
    contract_map_digest: str
    strategies: dict[str, dict[str, Any]]
    generated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset(Origin):
    """A dataset on disk, its rows not read.

    Attributes
    ----------
    path : Path
    symbols, features : tuple of str
    config_digest, feature_digest : str
        SHA-256 of the resolved settings and of the formulas of `features`.
    """

    path: Path
    symbols: tuple[str, ...]
    features: tuple[str, ...]
    config_digest: str
    feature_digest: str

    def frame(self, symbol: str) -> pl.DataFrame:
        """Read one symbol's candidates.

        Parameters
        ----------
        symbol : str

        Returns
        -------
        polars.DataFrame
            By decision; as `candidates` yields it.

        Raises
        ------
        ConfigError
            The dataset holds no candidate of it.
        EnvironmentFault
        """
        if symbol not in self.symbols:
            raise ConfigError(
                "option --symbols",
                expected=f"symbols of the dataset: {', '.join(self.symbols)}",
                found=symbol,
                where=str(self.path),
            )
        with environment("dataset", self.path, "make it again with `ibs model dataset`"):
            return pl.scan_parquet(self.path).filter(pl.col("symbol") == symbol).collect()


def write_dataset(
    source: BarSource,
    settings: Settings,
    contracts: ContractMap,
    out: Path,
    *,
    roots: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> dict[str, Any]:
    """Write the labelled candidates of all symbols into one Parquet file, whole or not at all.

    Parameters
    ----------
    source : BarSource
    settings : Settings
    contracts : ContractMap
    out : Path
    roots, names, progress : optional
        As `candidates` takes them.

    Returns
    -------
    dict
        ``out``, ``rows`` by symbol, ``features``, ``generated_data``, ``data_digest``: JSON values.

    Raises
    ------
    ConfigError, DataError, EnvironmentFault
    """
    refuse_place("dataset", out, source.files)
    frames = candidates(source, settings, contracts, roots=roots, names=names, progress=progress)
    first = next(frames)
    features = tuple(first.columns[first.columns.index("label") + 1 :])
    wanted = roots or settings.symbols or source.roots
    chosen = [root for root in contracts.contracts if root in wanted]  # the order of the frames
    generated = any(marks_of(path).get("ibs.generated") == "true" for path in source.files)
    says = {
        "features": features,
        "data_digest": source.digest(),
        "contract_map_digest": contracts.digest,
        "config_digest": sha256(resolved_yaml(settings).encode()).hexdigest(),
        "feature_digest": feature_digest(features, contracts),
        "strategies": strategies_of(settings, chosen),
    }
    marks = {"ibs.version": ibs_core.__version__, _MARK: json.dumps(says, sort_keys=True)}
    if generated:
        marks["ibs.generated"] = "true"
    counts: dict[str, int] = {}

    def counted() -> Iterator[pl.DataFrame]:
        digests = {}
        for root, frame in zip(chosen, _again(first, frames), strict=True):
            counts[root], digests[root] = len(frame), _digest(frame)
            yield frame
        marks[_ROWS] = json.dumps(digests)  # written last, when every frame has passed

    with environment("dataset", out, "check the path, its permissions and the free space"):
        out.parent.mkdir(parents=True, exist_ok=True)
        join_parquet(counted(), out, marks)
    return {
        "out": str(out),
        "rows": counts,
        "features": len(features),
        "generated_data": generated,
        "data_digest": says["data_digest"],
    }


def strategies_of(settings: Settings, roots: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Spell the rules by which candidates are made.

    Parameters
    ----------
    settings : Settings
    roots : sequence of str

    Returns
    -------
    dict of str to dict
        By root, JSON values.
    """
    return {
        root: settings.strategy_of(root).model_dump(mode="json", by_alias=True) for root in roots
    }


def open_dataset(path: Path, contracts: ContractMap) -> Dataset:
    """Read what a dataset says of itself, and check that it belongs to the present catalogue.

    Parameters
    ----------
    path : Path
    contracts : ContractMap

    Returns
    -------
    Dataset

    Raises
    ------
    ConfigError
        It is no dataset, or was made with another contract map.
    DataError
        It holds no candidate, features have other formulas now, or the rows are not those that were written.
    EnvironmentFault
        The file cannot be read.
    """
    marks = marks_of(path)
    remedy = "make it again with `ibs model dataset`"
    if _MARK not in marks:
        raise ConfigError(
            "no dataset", expected="a file of `ibs model dataset`", where=str(path), remedy=remedy
        )
    says = json.loads(marks[_MARK])
    if says["contract_map_digest"] != contracts.digest:
        raise ConfigError(
            "dataset was made with another contract map",
            expected=f"the digest {contracts.digest[:12]}…",
            found=f"{says['contract_map_digest'][:12]}…",
            where=str(path),
            remedy=remedy,
        )
    features = tuple(says["features"])
    if feature_digest(features, contracts) != says["feature_digest"]:
        raise DataError(
            "features have other formulas than those of the dataset",
            where=str(path),
            remedy=remedy,
        )
    with environment("dataset", path, remedy):
        held = pl.scan_parquet(path).select(pl.col("symbol").unique(maintain_order=True)).collect()
    dataset = Dataset(
        path=path,
        symbols=tuple(held["symbol"].to_list()),
        features=features,
        data_digest=says["data_digest"],
        contract_map_digest=says["contract_map_digest"],
        config_digest=says["config_digest"],
        feature_digest=says["feature_digest"],
        strategies=says["strategies"],
        generated=marks.get("ibs.generated") == "true",
    )
    if not dataset.symbols:
        raise DataError(
            "dataset holds no candidate",
            where=str(path),
            remedy="give more bars, or a rule that lets more entries through",
        )
    written = json.loads(marks.get(_ROWS, "{}"))
    for symbol in dataset.symbols:
        if _digest(dataset.frame(symbol)) != written.get(symbol):
            raise DataError(
                f"rows are not those that were written, of {symbol}",
                where=str(path),
                remedy=remedy,
            )
    return dataset


def feature_digest(names: Sequence[str], contracts: ContractMap) -> str:
    """Digest features by their names.

    Parameters
    ----------
    names : sequence of str
    contracts : ContractMap

    Returns
    -------
    str
        As `feature_set_digest` returns it.
    """
    return feature_set_digest([resolve(name, contracts, where="dataset") for name in names])


def _digest(frame: pl.DataFrame) -> str:
    """Digest rows by their values: tools that change a column may keep all that a file says of itself."""
    seen = sha256(repr(frame.columns).encode())
    for column in frame.iter_columns():
        seen.update(column.is_null().to_numpy().tobytes())
        if column.dtype.is_numeric() or column.dtype.is_temporal():
            seen.update(column.to_physical().fill_null(0).to_numpy().tobytes())
        else:
            seen.update("\n".join(column.cast(pl.String).fill_null("").to_list()).encode())
    return seen.hexdigest()


def _again(first: pl.DataFrame, others: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    yield first
    yield from others
