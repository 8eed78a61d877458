"""Verbs: one exact path each, with who may, what it takes, how much it reads and how long it may take."""

from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from fairlead.core.contract import Malformed
from fairlead.core.identity import Power
from fairlead.errors import Invalid
from fairlead.project import Project

__all__ = ["Nothing", "Verb", "read"]

BODY = 16 * 1024


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """No arguments."""


class Verb(Struct, frozen=True, kw_only=True):
    """`takes`: its arguments, in the query of a GET or the JSON body of a POST: ids, never paths.
    `act` runs in a worker thread; what it says of itself is the documentation. `seconds`: then the
    caller hears that it is still at work."""

    method: Literal["GET", "POST"]
    path: str
    power: Power
    act: Callable[[Project, Any], Any]
    takes: type[Struct] = Nothing
    seconds: float = 10.0

    @property
    def max_body(self) -> int:
        return 0 if self.method == "GET" else BODY


def read(verb: Verb, query: bytes, body: bytes) -> Struct:
    """The arguments of a request. Raises Malformed (no JSON, no query), Invalid with a pointer."""
    try:
        if verb.method == "POST":
            return msgspec.json.decode(body or b"{}", type=verb.takes)
        return msgspec.convert(_query(query), verb.takes, strict=False)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        pointer = path.rstrip("`").replace("[", "/").replace("]", "").replace(".", "/")
        raise Invalid(text, pointer=pointer, hint="/openapi.json lists what it takes") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError):
        raise Malformed("the arguments cannot be read", hint="a JSON body for POST, ?name=value for GET") from None  # fmt: skip


def _query(text: bytes) -> dict[str, str]:
    pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, strict_parsing=bool(text), max_num_fields=20)  # fmt: skip
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name is given twice")
    return dict(pairs)
