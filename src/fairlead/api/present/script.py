"""What a script reads: core values as JSON with references, enumerations and sets spelt out."""

from collections.abc import Mapping
from enum import Enum
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec

from fairlead.core.check import Outcome
from fairlead.core.ref import Ref

__all__ = ["dump", "simple"]


def dump(value: Any, *, lines: bool = False) -> str:
    """`value` as indented JSON, or, for a stream, on one line."""
    text = msgspec.json.encode(simple(value))
    return text.decode() if lines else msgspec.json.format(text, indent=2).decode()


def simple(value: Any) -> Any:
    """References as ``kind/name@digest``, outcomes as words, sets sorted, NaN and infinity as null."""
    match value:
        case Ref() | Path():
            return str(value)
        case Outcome():
            return value.name.lower()
        case Enum():
            return value.value
        case msgspec.Struct():
            tag = value.__struct_config__.tag
            held = {f: getattr(value, f) for f in value.__struct_fields__}
            fields = {f: simple(v) for f, v in held.items() if v is not msgspec.UNSET}
            return {"type": tag, **fields} if tag else fields
        case Mapping():
            return {str(simple(k)): simple(v) for k, v in value.items()}
        case set() | frozenset():
            return sorted(simple(v) for v in value)
        case list() | tuple():
            return [simple(v) for v in value]
        case float():
            return value if isfinite(value) else None
        case _:
            return value
