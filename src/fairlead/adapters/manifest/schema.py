"""The JSON Schema of `fairlead.yaml`: what editors complete and check against."""

from collections.abc import Mapping
from typing import Any

import msgspec

from fairlead.adapters.manifest.fields import ALWAYS, FIELDS, Field
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
        part.update(_needs(part.get("required", []), fields))
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema",
             "title": "fairlead.yaml", **top, "$defs": parts}  # fmt: skip
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(whole))
    return plain


def _needs(required: list[str], fields: Mapping[str, Field]) -> dict[str, Any]:
    """Which keys there must be: always, or unless there is another one."""
    groups: dict[str, list[str]] = {}
    for name, field in fields.items():
        if field.unless:
            groups.setdefault(field.unless, []).append(name)
    always = [*required, *groups.pop(ALWAYS, [])]
    either = [{"anyOf": [{"required": names}, {"required": [other]}]} for other, names in groups.items()]
    return ({"required": always} if always else {}) | ({"allOf": either} if either else {})


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
