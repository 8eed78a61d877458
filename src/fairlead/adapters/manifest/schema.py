"""The JSON Schema of `fairlead.yaml`: what editors complete and check against."""

from typing import Any

import msgspec

from fairlead.adapters.manifest.fields import FIELDS, Field
from fairlead.core.manifest import Manifest

__all__ = ["json_schema"]

DURATION = r"^\s*(\d+(\.\d+)?\s*(ms|s|m|h|d|w)\s*)+$"


def json_schema() -> dict[str, Any]:
    """The schema (JSON Schema 2020-12) with the meaning and the limits of every key."""
    (top,), parts = msgspec.json.schema_components([Manifest], ref_template="#/$defs/{name}")
    for cls, fields in FIELDS.items():
        part = parts[cls.__name__]
        part["description"] = " ".join((cls.__doc__ or "").split()).replace("`", "'")
        for name, field in fields.items():
            part["properties"][name] = _described(part["properties"][name], field)
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema",
             "title": "fairlead.yaml", **top, "$defs": parts}  # fmt: skip
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(whole))
    return plain


def _described(shape: dict[str, Any], field: Field) -> dict[str, Any]:
    limited = shape.get("items", shape)
    if field.is_duration:
        limited["pattern"] = f"^$|{DURATION}" if field.optional else DURATION
    elif field.pattern:
        limited["pattern"] = field.pattern
    for word, limit in (("inimum", field.low), ("aximum", field.high)):
        if abs(limit) != float("inf") and not field.is_duration:
            limited[f"exclusiveM{word}" if field.open else f"m{word}"] = limit
    return {"description": field.meaning, **shape}
