"""Model bundles: the one file that trades, and the card that says what it is.

A bundle is a folder ``models/<SYMBOL>/<version>/`` of two files. ``model.onnx`` is what was judged and what
scores; ``card.json`` names its features, its threshold, its training window, where its data came from,
how it was judged, and rows with the scores that it must give. A bundle never changes once written, but
for the record of its promotion. Nothing is unpickled here.
"""

from ibs_core.bundle.card import Card, Golden, Guardrail, Promotion, Window
from ibs_core.bundle.digest import feature_set_digest
from ibs_core.bundle.folder import (
    Bundle,
    Listed,
    list_bundles,
    load_bundle,
    promote,
    promoted,
    read_file,
    versions,
    write_bundle,
)

__all__ = [
    "Bundle",
    "Card",
    "Golden",
    "Guardrail",
    "Listed",
    "Promotion",
    "Window",
    "feature_set_digest",
    "list_bundles",
    "load_bundle",
    "promote",
    "promoted",
    "read_file",
    "versions",
    "write_bundle",
]
