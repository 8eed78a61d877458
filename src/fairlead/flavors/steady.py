"""skops files in one spelling: the same estimator gives the same bytes, in every process."""

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["steady"]

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest moment a zip file can hold."""


def steady(data: bytes) -> bytes:
    """The skops file `data` without what differs from one process to the next.

    skops names objects by their addresses in memory and stamps its files with the time. Here they
    are numbered in the order of the schema; unused bytes between the fields of records are zero.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        files = {name: old.read(name) for name in old.namelist()}
    schema = json.loads(files.pop("schema.json"))
    numbers: dict[int, int] = {}
    names: dict[str, str] = {}
    for place, node in enumerate(_nodes(schema), 1):
        if "__id__" in node:  # a plain value is itself wherever it stands
            plain = node.get("__loader__") == "JsonNode"
            node["__id__"] = place if plain else numbers.setdefault(node["__id__"], place)
        if node.get("file") in files:
            node["file"] = names.setdefault(node["file"], f"{place}.{node['file'].rpartition('.')[2]}")
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in sorted((names.get(n, n), c) for n, c in files.items()):
            new.writestr(zipfile.ZipInfo(name, EPOCH), _padded(content) if name.endswith(".npy") else content)
        new.writestr(zipfile.ZipInfo("schema.json", EPOCH), json.dumps(schema, indent=2))
    return target.getvalue()


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Every object of the schema, outer before inner, in order."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from _nodes(inner)


def _padded(content: bytes) -> bytes:
    """An array file whose records have zeros between their fields."""
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype.names is None:
        return content
    clean = np.zeros(array.shape, array.dtype)  # zeros_like leaves the gaps as they are
    for field in array.dtype.names:
        clean[field] = array[field]
    target = io.BytesIO()
    np.save(target, clean, allow_pickle=False)
    return target.getvalue()
