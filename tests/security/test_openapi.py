"""S15, S20: every operation of the control API meets arguments made from its own document, right and wrong."""

import asyncio
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus, urlencode

import pytest

from fairlead.api.http.openapi import ANSWERS, document
from fairlead.api.http.server import Control
from fairlead.api.http.verb import Nothing, Verb
from fairlead.api.http.verbs import VERBS
from fairlead.core.identity import ROLES
from fairlead.project import Project
from fairlead.serve.http import Connection
from tests.api.test_control import MANIFEST, Line, tokens
from tests.security.test_watched import INTERNALS, SQL

FEW, MANY = 6, 150
WORDS = ("", "a", "a-viewer", "late", "model/late@" + "0" * 64, "1d", "0s", "-5d", "9" * 400, "\x00", "é💩", "\u202e", "../..", "a" * 3000,
         "1" * 26, *SQL)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 0.5, -0.0, 1e308, -1e308, 2**53, 2**63, -(2**64), 10**30)
OTHERS: tuple[Any, ...] = (None, True, [], {}, [None], {"a": {"b": []}}, [[[]]], "1", 3)


def made(schema: dict[str, Any], whole: dict[str, Any], draw: random.Random) -> Any:
    """A value of a JSON schema, at its edges; one time in eight something else."""
    if draw.random() < 0.125:
        return draw.choice(OTHERS)
    if "$ref" in schema:
        return made(whole["components"]["schemas"][schema["$ref"].rpartition("/")[2]], whole, draw)
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return made(draw.choice(choices), whole, draw)
    if "enum" in schema or "const" in schema:
        return draw.choice(schema.get("enum") or [schema["const"]])
    match schema.get("type"):
        case "object":
            named, needed = schema.get("properties", {}), schema.get("required", ())
            return {n: made(s, whole, draw) for n, s in named.items() if n in needed or draw.random() < 0.6}
        case "array":
            return [made(schema.get("items", {}), whole, draw) for _ in range(draw.randrange(4))]
        case "integer" | "number":
            return draw.choice(NUMBERS)
        case "boolean":
            return draw.random() < 0.5
        case "null":
            return None
        case _:
            return draw.choice(WORDS)


def calls(verbs: Sequence[Verb], many: int) -> Iterator[tuple[Verb, bytes]]:
    """Requests without their heads' end, by the document alone."""
    whole, draw = json.loads(document(verbs)), random.Random(15)
    for verb in verbs:
        said = whole["paths"][verb.path][verb.method.lower()]
        for _ in range(many):
            if verb.method == "POST":
                schema = said["requestBody"]["content"]["application/json"]["schema"]
                yield verb, _call(verb.path, json.dumps(made(schema, whole, draw)).encode())
            else:
                chosen = {p["name"]: made(p["schema"], whole, draw) for p in said.get("parameters", ())
                          if p["required"] or draw.random() < 0.6}  # fmt: skip
                yield verb, _call(verb.path, None, chosen)


def _call(path: str, body: bytes | None, query: dict[str, Any] | None = None) -> bytes:
    if body is not None:
        return b"POST %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body)
    asked = "?" + urlencode({k: v if isinstance(v, str) else json.dumps(v) for k, v in query.items()}) if query else ""
    return f"GET {path}{asked} HTTP/1.1\r\n\r\n".encode()


async def heard(control: Control, call: bytes, token: str) -> tuple[int, bytes]:
    line, connection = Line(), Connection(control.site)
    connection.connection_made(line)
    start, _, rest = call.partition(b"\r\n")
    connection.data_received(start + f"\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n".encode() + rest)
    async with asyncio.timeout(30):
        while not connection_done(line.heard):
            await asyncio.sleep(0.0005)
    connection.connection_lost(None)
    head, _, body = line.heard.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def connection_done(heard: bytes) -> bool:
    head, found, body = heard.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return bool(found) and len(body) >= int(length or 0)


def trouble(status: int, body: bytes, call: bytes) -> str:
    """What is wrong with an answer."""
    said = json.loads(body)
    if status == 200:
        return ""
    if str(status) not in ANSWERS or status == 500:
        return f"{status} is not in the document"
    error = said.get("error", {})
    if set(said) != {"error"} or not all(error.get(k) for k in ("code", "message", "id")):
        return "not our body"
    told = "".join(str(v) for v in error.values()).replace("fairlead.yaml", "")
    asked = unquote_plus(call.decode("latin-1"))  # what the caller said itself may come back
    leaked = [w for w in INTERNALS if w in told and w not in asked]
    return f"tells {leaked}" if leaked else ""


async def asked(project: Project, verbs: Sequence[Verb], many: int) -> dict[int, int]:
    """Every call in turn; how many answers of each status."""
    known = tokens(project)
    holders = {power: known[role] for role, powers in ROLES.items() if role not in ("admin", "service") for power in powers}
    holders["administer"] = known["boss"]
    holders["join"] = project.invite_person("a-viewer", (), "1d", "1d")
    control, seen = Control(project.root, "127.0.0.1", project, "", verbs), dict[int, int]()
    try:
        for verb, call in calls(verbs, many):
            status, body = await heard(control, call, holders[verb.power])
            assert not (wrong := trouble(status, body, call)), f"{wrong}: {call[:300]!r} -> {body[:300]!r}"
            seen[status] = seen.get(status, 0) + 1
    finally:
        await control.stop()
    return seen


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    (tmp_path / "fairlead.yaml").write_text(MANIFEST)
    (tmp_path / "loans.csv").write_text("status\n1\n0\n")
    with Project.open(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("many", [FEW, pytest.param(MANY, marks=[pytest.mark.security, pytest.mark.timeout(600)])])
def test_every_operation_answers_or_refuses_in_our_words(project: Project, many: int) -> None:
    seen = asyncio.run(asked(project, VERBS, many))
    assert sum(seen.values()) == many * len(VERBS)
    assert seen[200] > many and seen[422] > many, "neither taken nor refused: the arguments are not what they should be"


def test_an_operation_that_breaks_is_found(project: Project) -> None:
    """The twin."""
    broken = Verb(method="GET", path="/v1/broken", power="look", act=lambda p, a: 1 / 0, takes=Nothing)
    with pytest.raises(AssertionError, match="500 is not in the document"):
        asyncio.run(asked(project, [broken], 1))
