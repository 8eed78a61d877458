"""OpenAPI: the document of the control API, made from the verbs that are declared."""

from collections.abc import Sequence
from typing import Any

import msgspec

from fairlead import __version__
from fairlead.api.http.verb import Verb

__all__ = ["document"]

REFERENCE = "#/components/schemas/{name}"
ERROR = {
    "type": "object", "required": ["error"],
    "properties": {"error": {"type": "object", "required": ["code", "message", "id"], "properties": {
        name: {"type": "string"} for name in ("code", "message", "pointer", "hint", "id")}}},
}  # fmt: skip
ANSWERS = {"400": "the arguments cannot be read", "401": "no valid token", "403": "not allowed, or from elsewhere",
           "404": "no such thing", "409": "not in this state", "413": "too large", "422": "wrong arguments",
           "503": "not now"}  # fmt: skip


def document(verbs: Sequence[Verb]) -> bytes:
    """OpenAPI 3.1 as JSON."""
    _, schemas = msgspec.json.schema_components([v.takes for v in verbs], ref_template=REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for verb in verbs:
        paths.setdefault(verb.path, {})[verb.method.lower()] = _operation(verb, schemas)
    return msgspec.json.encode({
        "openapi": "3.1.0", "info": {"title": "Fairlead control API", "version": __version__},
        "paths": paths,
        "components": {"schemas": {**schemas, "Error": ERROR},
                       "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    })  # fmt: skip


def _operation(verb: Verb, schemas: dict[str, Any]) -> dict[str, Any]:
    said = {"200": {"description": "what the command line prints with --json", "content": {"application/json": {}}}}
    for code, words in ANSWERS.items():
        said[code] = {"description": words, "content": {"application/json": {"schema": {"$ref": REFERENCE.format(name="Error")}}}}  # fmt: skip
    made: dict[str, Any] = {
        "operationId": verb.path.removeprefix("/v1/").replace("/", "_"),
        "summary": (verb.act.__doc__ or "").strip(), "x-power": verb.power, "responses": said,
        "security": [{"token": []}],
    }  # fmt: skip
    name = verb.takes.__name__
    if verb.method == "POST":
        made["requestBody"] = {"content": {"application/json": {"schema": {"$ref": REFERENCE.format(name=name)}}}}
    elif verb.takes.__struct_fields__:
        shape = schemas[name]
        made["parameters"] = [{"name": field, "in": "query", "schema": schema, "required": field in shape.get("required", ())}
                              for field, schema in shape["properties"].items()]  # fmt: skip
    return made
