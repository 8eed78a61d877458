"""The control API: no door opens to whoever may not, by no spelling of it; and what it says is true."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from fairlead.api.http.desk import plain
from fairlead.api.http.openapi import document
from fairlead.api.http.server import Control
from fairlead.api.http.verb import Nothing, Verb
from fairlead.api.http.verbs import VERBS
from fairlead.core.identity import ROLES, Power
from fairlead.errors import Corrupt, Invalid, Unavailable
from fairlead.flow import identity
from fairlead.project import Project
from fairlead.serve.http import Connection

MANIFEST = "service: loans\ndata: {source: loans.csv, target: status}\ntrain: {}\n"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT")
PUBLIC = {"/openapi.json", "/health"}
BOOT = "boot" * 10


def tricks(path: str) -> list[str]:
    """Spellings that some server takes for `path`, or for a public one."""
    stem = path.lstrip("/")
    return [path, f"{path}/", f"//{stem}", f"/{path}", f"{path};x", f"{path};/health", f"{path}%2f", f"/%2e/{stem}",
            f"/./{stem}", f"/x/../{stem}", f"/health/..{path}", f"/health/../{stem}", f"{path}/health", f"{path}/openapi.json",
            f"{path}.json", f"{path}%00", f"{path}#/health", f"{path}?x=/health", path.upper(), path.replace("/", "\\"),
            path.replace("v1", "%76%31"), f"http://localhost{path}", f"/openapi.json{path}"]  # fmt: skip


class Line(asyncio.Transport):
    """A caller in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = b""

    def write(self, data: Any) -> None:
        self.heard += bytes(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def write_eof(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


def head(control: Control, method: str, path: str, token: str, *lines: str, body: str = "") -> bytes:
    """What is heard at once: a refusal, or nothing while a thread is at work."""
    line, connection = Line(), Connection(control.site)
    connection.connection_made(line)
    said = [f"{method} {path} HTTP/1.1", *(lines or ("Host: 127.0.0.1",)), *([f"Authorization: {token}"] if token else [])]
    connection.data_received("\r\n".join([*said, f"Content-Length: {len(body)}", "", body]).encode())
    connection.connection_lost(None)
    return line.heard


class Counting(Control):
    """Notes which verbs would have been carried out, and carries out none."""

    taken: list[str]

    def _take(self, verb: Verb, exchange: Any) -> None:
        self.taken.append(verb.path)
        exchange.ok(b"{}")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    (tmp_path / "fairlead.yaml").write_text(MANIFEST)
    with Project.open(tmp_path) as opened:
        yield opened


def tokens(project: Project) -> dict[str, str]:
    """Somebody of every role, and tokens that are good for nothing."""
    made = {"boss": project.add_person("boss", ["admin"], "9d")}
    project.show(made["boss"])
    for role in ROLES:
        if role != "admin":
            made[role] = project.add_person(f"a-{role}", [role], "9d")
    made["expired"] = project.issue_token("a-operator", "1ms")
    made["elsewhere"] = project.issue_token("a-operator", "9d", (), "prod")
    made["scoped"] = project.issue_token("a-operator", "9d", ("look",))
    made["revoked"] = project.issue_token("a-operator", "9d")
    project.revoke_token(made["revoked"].split("_")[1], "test")
    time.sleep(0.002)
    return made


def control(project: Project, host: str = "127.0.0.1") -> Counting:
    made = Counting(project.root, host, project, BOOT)
    made.taken = []
    return made


def test_no_spelling_of_a_route_opens_to_whoever_may_not(project: Project) -> None:
    """Every route x method x identity x spelling (promise S7)."""
    made, asked = tokens(project), 0
    powers: dict[str, frozenset[Power]] = {"boss": ROLES["admin"], "operator": ROLES["operator"], "auditor": ROLES["auditor"],
                                           "scoped": frozenset({"look"})}  # fmt: skip
    known = {"nobody": "", "unknown": "Bearer fl_000000000000_" + "x" * 43, "boot": f"Bearer {BOOT}",
             "raw": made["operator"], "basic": f"Basic {made['operator']}",
             **{n: f"Bearer {made[n]}" for n in ("expired", "elsewhere", "revoked", "service", *powers)}}  # fmt: skip
    few = [(who, known[who]) for who in ("nobody", "boot", "revoked", "operator", "boss")]
    served = control(project)
    for endpoint in served.site.table.all():
        verb = next((v for v in VERBS if v.path == endpoint.path), None)
        for spelling in tricks(endpoint.path):
            exactly = spelling == endpoint.path
            for method in METHODS if exactly else ("GET", "POST"):
                for who, token in known.items() if exactly else few:
                    before, asked = len(served.taken), asked + 1
                    status = head(served, method, spelling, token)[9:12]
                    exact = spelling.partition("?")[0] == endpoint.path and method == endpoint.method
                    may = verb is not None and exact and verb.power in powers.get(who, ())
                    assert served.taken[before:] == ([endpoint.path] if may else []), (who, method, spelling)
                    public = exact and endpoint.path in PUBLIC
                    assert (status == b"200") == (may or public), (who, method, spelling, status)
    assert {e.path for e in served.site.table.all() if e.access == "anyone"} == PUBLIC
    assert asked > 10_000


def test_a_token_that_was_revoked_a_moment_ago_is_refused(project: Project) -> None:
    made, served = tokens(project), control(project)
    ask = ("GET", "/v1/status", f"Bearer {made['viewer']}")
    assert head(served, *ask)[9:12] == b"200"
    with Project.open(project.root) as other:
        other.show(made["boss"])
        other.revoke_token(made["viewer"].split("_")[1], "left")
    assert head(served, *ask)[9:12] == b"401"


def test_until_people_are_known_this_machine_and_the_token_of_the_start(project: Project) -> None:
    served = control(project)
    assert head(served, "GET", "/v1/status", "")[9:12] == b"401"
    assert head(served, "GET", "/v1/status", f"Bearer {BOOT}")[9:12] == b"200"
    with pytest.raises(Invalid, match="nobody is known"):
        control(project, "0.0.0.0")
    made = tokens(project)
    assert head(served, "GET", "/v1/status", f"Bearer {BOOT}")[9:12] == b"401"
    assert head(control(project, "0.0.0.0"), "GET", "/v1/status", f"Bearer {made['viewer']}", "Host: any")[9:12] == b"200"


@pytest.mark.parametrize("method", METHODS)
def test_a_web_page_cannot_call(project: Project, method: str) -> None:
    """DNS rebinding and cross-site requests (promise S8), with a good token."""
    served = control(project)
    for lines in (("Host: evil.example",), ("Host: evil.example:8090",), ("Host: 127.0.0.1", "Origin: http://evil.example"),
                  ("Host: 127.0.0.1", "Origin: null"), ("Host: localhost.evil.example",), ("Host: 127.0.0.1.evil.example",)):  # fmt: skip
        for path in ("/v1/status", "/v1/release/rollback", "/health", "/openapi.json"):
            assert head(served, method, path, f"Bearer {BOOT}", *lines)[9:12] in (b"403", b"405", b"404"), lines
    assert not served.taken


def test_limits_hold_before_anything_is_parsed(project: Project) -> None:
    made, served = tokens(project), control(project)
    token = f"Bearer {made['operator']}"
    assert head(served, "POST", "/v1/release/rollback", token, body="x" * 20_000)[9:12] == b"413"
    assert head(served, "GET", "/v1/status", token, body="x")[9:12] == b"413"
    assert head(served, "GET", "/v1/status?" + "x" * 20_000, token)[9:12] == b"431"
    for verb in (Verb(method="GET", path="/v1/x", power=cast(Power, "root"), act=lambda p, a: None),
                 Verb(method="GET", path="/v1/x", power="look", act=lambda p, a: None, seconds=0)):  # fmt: skip
        with pytest.raises(Invalid, match="/v1/x"):
            Control(project.root, "127.0.0.1", project, BOOT, [verb])


def test_what_is_wrong_inside_stays_inside() -> None:
    for error in (Unavailable("/srv/secret/records.db is locked", hint="SELECT"), Corrupt("/srv/secret", hint="x")):
        refusal = plain(error, "0123")
        assert b"secret" not in refusal.body("0123") and b"0123" in refusal.body("0123") and refusal.status >= 500


def test_the_document_describes_every_verb() -> None:
    told = json.loads(document(VERBS))
    assert {(p, m.upper()) for p, ops in told["paths"].items() for m in ops} == {(v.path, v.method) for v in VERBS}
    one = told["paths"]["/v1/impact"]["get"]
    assert [(p["name"], p["required"]) for p in one["parameters"]] == [("id", True), ("since", False), ("until", False)]
    assert one["x-power"] == "look" and one["security"] == [{"token": []}]
    assert told["paths"]["/v1/release/start"]["post"]["requestBody"]
    assert len({op["operationId"] for ops in told["paths"].values() for op in ops.values()}) == len(VERBS)
    assert all(op["summary"] for ops in told["paths"].values() for op in ops.values())
    names = {n for v in VERBS for n in v.takes.__struct_fields__}
    assert not names & {"path", "file", "folder", "target", "source"}, "ids, never paths"


class Served:
    """`fairlead control` as a process."""

    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "fairlead", "control", "--port", "0", "-C", str(root)],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # fmt: skip
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1])

    def ask(self, method: str, path: str, token: str, body: Any = None) -> tuple[int, Any]:
        data = b"" if body is None else json.dumps(body).encode()
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as line:
            line.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n"
                         f"Content-Length: {len(data)}\r\n\r\n".encode() + data)  # fmt: skip
            heard = b"".join(iter(lambda: line.recv(65536), b""))
        first, _, rest = heard.partition(b"\r\n\r\n")
        return int(first[9:12]), json.loads(rest)

    def end(self) -> int:
        with self.process:
            self.process.send_signal(signal.SIGTERM)
            return self.process.wait(10)


def test_a_process_answers_and_ends(project: Project) -> None:
    served = Served(project.root)
    run = project.state / "run"
    try:
        token = run / "control.token"
        assert token.stat().st_mode & 0o777 == 0o600
        status, said = served.ask("GET", "/v1/status", token.read_text())
        assert status == 200 and said["service"] == "loans"
        status, said = served.ask("POST", "/v1/people/add", token.read_text(), {"name": "ann", "roles": ["admin"]})
        assert status == 200
        admin = said["token"]
        assert served.ask("GET", "/v1/status", token.read_text())[0] == 401
        assert served.ask("GET", "/v1/whoami", admin)[1]["name"] == "ann"
        assert served.ask("POST", "/v1/people/add", admin, {"name": "tom", "roles": ["boss"]})[0] == 422
        assert served.ask("POST", "/v1/people/add", admin, {"name": "tom", "role": 3})[1]["error"]["pointer"] == ""
        assert served.ask("GET", "/v1/artifact?id=x&id=y", admin)[0] == 400
        assert served.ask("GET", "/v1/artifact?id=none", admin)[0] == 404
        assert served.ask("POST", "/v1/policy/adopt", admin, {"reason": "first"})[0] == 200
        assert admin not in json.dumps(served.ask("GET", "/v1/people", admin)[1])
    finally:
        assert served.end() == 0
    assert not list(run.glob("control.*"))
    assert identity.read(project.records).people.keys() == {"ann"}


def test_a_verb_that_takes_too_long_is_told_so(project: Project) -> None:
    def slow(project: Project, asked: Nothing) -> str:
        time.sleep(0.3)
        return "done"

    async def play() -> list[bytes]:
        made = Control(project.root, "127.0.0.1", project, BOOT,
                       [Verb(method="GET", path="/v1/slow", power="look", act=slow, seconds=0.05),
                        Verb(method="POST", path="/v1/quick", power="release", act=lambda p, a: "done")])  # fmt: skip
        said = []
        for method, path in (("GET", "/v1/slow"), ("POST", "/v1/quick")):
            line, connection = Line(), Connection(made.site)
            connection.connection_made(line)
            connection.data_received(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {BOOT}\r\n"
                                     "Content-Length: 0\r\n\r\n".encode())  # fmt: skip
            end = time.monotonic() + 10
            while not line.heard and time.monotonic() < end:
                await asyncio.sleep(0.01)
            said.append(line.heard)
        await made.stop()
        return said

    late, quick = asyncio.run(play())
    assert late.startswith(b"HTTP/1.1 503") and b'"late"' in late
    assert quick.startswith(b"HTTP/1.1 200"), "a long question delays nothing that acts"
