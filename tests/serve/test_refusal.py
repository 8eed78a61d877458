"""Every refusal the source can utter, uttered by the real gateway: code, pointer, hint and id."""

import ast
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import fairlead
from fairlead.core.schema import Column
from fairlead.serve.refusal import _KINDS, REASONS

if TYPE_CHECKING:
    from tests.serve.conftest import Plant

ROW = {"distance": 0.5, "carrier": "UA", "hour": 7, "late": False}
COLUMNS = (Column(name="distance", dtype="float"), Column(name="carrier", dtype="category", categories=("UA",)),
           Column(name="hour", dtype="int", nullable=True), Column(name="late", dtype="bool", nullable=True),
           Column(name="cabin", dtype="category", categories=("economy",), closed=True, nullable=True))  # fmt: skip
ELSEWHERE = {
    "journal": "test_durability.py: a disk that is full", "internal": "the border of a request: no known way there",
    "rate": "test_callers.py: a token that asks too often",
    "poison": "tests/faults: a row of which replicas die", "conflict": "no door raises it",
    "provider": "test_chat.py: a question that a provider refuses", "busy": "test_chat.py: a busy provider",
    "corrupt": "no door raises it", "forbidden": "tests/api/test_control.py: only the control API knows powers",
}  # fmt: skip
SLOW = [{**ROW, "distance": 101}] * 8
RETRY = {"overload", "unavailable", "deadline", "connections"}
HERE = b"host: localhost\r\n"


def post(
    body: Any, path: str = "/predict", extra: bytes = b"connection: close\r\n", host: bytes = HERE
) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"POST %b HTTP/1.1\r\n%b%bcontent-length: %d\r\n\r\n%b" % (
        path.encode(), host, extra, len(data), data)  # fmt: skip


UTTERED: list[tuple[str, int, str, bytes]] = [
    ("http", 400, "", b"nonsense\r\n\r\n"),
    ("host", 400, "", b"GET /v2 HTTP/1.1\r\n\r\n"),
    ("upgrade", 400, "", b"GET /v2 HTTP/1.1\r\n" + HERE + b"connection: upgrade\r\nupgrade: h2c\r\n\r\n"),
    ("expect", 417, "", post(ROW, extra=b"expect: the-unexpected\r\n")),
    ("header", 431, "", b"GET /v2 HTTP/1.1\r\n" + HERE + b"x: " + b"y" * 3000),
    ("body", 413, "", b"POST /predict HTTP/1.1\r\n" + HERE + b"content-length: 6000\r\n\r\n"),
    ("slow", 408, "", b"POST /predict HTTP/1.1\r\n" + HERE),
    ("no_such_path", 404, "", b"GET /predcit HTTP/1.1\r\n" + HERE + b"\r\n"),
    ("method", 405, "", b"GET /predict HTTP/1.1\r\n" + HERE + b"\r\n"),
    ("origin", 403, "", post(ROW, host=b"host: evil.example\r\n")),
    ("malformed", 400, "", post(b'{"distance": NaN}')),
    ("malformed", 400, "/distance", post(b'{"distance": 1, "distance": 2}')),
    ("type", 422, "/distance", post(ROW | {"distance": "far"})),
    ("missing", 422, "/carrier", post({"distance": 1})),
    ("missing", 422, "/rows/1/carrier", post({"rows": [ROW, {"distance": 1}]})),
    ("unknown", 422, "/distence", post({k.replace("ance", "ence"): v for k, v in ROW.items()})),
    ("category", 422, "/cabin", post(ROW | {"cabin": "roof"})),
    ("unseen", 422, "/carrier", post(ROW | {"carrier": "XX"})),
    ("invalid", 422, "/prediction", post({"prediction": "../x", "value": 1}, "/feedback")),
    ("rows", 413, "", post({"rows": [ROW] * 9})),
    ("deadline", 503, "", post({"rows": SLOW[:1]})),
    ("overload", 429, "", post({"rows": SLOW}, extra=b"") + post(ROW)),
    ("missing", 422, "/inputs/carrier/data/0", post({"inputs": [
        {"name": "distance", "shape": [1], "datatype": "FP64", "data": [1]}]}, "/v2/models/m/infer")),
    ("invalid", 422, "/inputs", post({"inputs": []}, "/v2/models/m/infer")),
    ("malformed", 400, "", post(b"{", "/v2/models/m/infer")),
]  # fmt: skip


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Plant"]:
    from tests.serve.conftest import Plant

    made = Plant(tmp_path_factory.mktemp("strict"))
    made.publish(made.package("slow", columns=COLUMNS, unseen="error"))
    limits = {"head_seconds": 0.3, "header_bytes": 2000}
    made.start(max_body=5000, queue=8, deadline_ms=300, limits=limits)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Plant"]:
    """A service without a package, behind a token, for two connections."""
    from tests.serve.conftest import Plant

    made = Plant(tmp_path_factory.mktemp("closed"))
    (made.root / "token").write_text("secret")
    made.start(token_file=str(made.root / "token"), limits={"connections": 2})
    yield made
    made.stop()


def last(answer: bytes) -> tuple[int, bytes, dict[str, Any]]:
    """Status, head and error of the last answer on a connection; the flat form made one with ours."""
    head, _, body = answer[answer.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    return int(head[9:12]), head, error if isinstance(error, dict) else {
        **json.loads(body), "message": error}  # fmt: skip


def teaches(code: str, status: int, pointer: str, answer: bytes) -> None:
    found, head, error = last(answer)
    assert (error["code"], found, error["pointer"]) == (code, status, pointer), error
    assert error["message"] and error["hint"] and len(error["id"]) == 26 and found in REASONS
    assert (b"retry-after: 1" in head) == (code in RETRY)


@pytest.mark.parametrize(("code", "status", "pointer", "request_"), UTTERED)
def test_a_refusal_teaches(strict: "Plant", code: str, status: int, pointer: str, request_: bytes) -> None:
    strict.wait(lambda: strict.status()["inside"] == 0)
    teaches(code, status, pointer, strict.speak(request_, 1.0))


def test_what_a_closed_service_says(closed: "Plant") -> None:
    teaches("token", 401, "", closed.speak(post(ROW, extra=b"connection: close\r\n")))
    token = b"authorization: Bearer secret\r\nconnection: close\r\n"
    teaches("unavailable", 503, "", closed.speak(post(ROW, extra=token)))
    with socket.create_connection(("127.0.0.1", closed.port)), socket.create_connection(("127.0.0.1", closed.port)):
        teaches("connections", 503, "", closed.wait(lambda: closed.speak(post(ROW))))


def test_nothing_is_refused_that_is_not_listed_here() -> None:
    """Codes are found in the source: a new one without a case above fails."""
    said = {code for _, _, code in _KINDS} - {"contract"}
    for path in [*Path(fairlead.__file__).parent.glob("serve/*.py"), Path(fairlead.__file__).parent / "core/contract.py"]:
        tree = ast.parse(path.read_text())
        for either in (n for n in ast.walk(tree) if isinstance(n, ast.Assign) and isinstance(n.value, ast.IfExp)):
            if ast.unparse(either.targets[0]) == "code":
                said |= {str(c.value) for c in ast.walk(either.value) if isinstance(c, ast.Constant)}
        for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
            name = getattr(call.func, "id", "")
            words = {k.arg: k.value for k in call.keywords}
            if name == "Refusal" and isinstance(code := words["code"], ast.Constant):
                assert "hint" in words, f"{path.name}:{call.lineno} teaches nothing"
                said.add(str(code.value))
            elif name == "_violation" and isinstance(code := call.args[0], ast.Constant):
                said.add(str(code.value))
    heard = {code for code, *_ in UTTERED} | {"token", "unavailable", "connections"}
    # A number that is not finite is no JSON, and only a row that comes decoded can hold one.
    assert said - {"range"} == heard | ELSEWHERE.keys()
