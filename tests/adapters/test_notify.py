"""Notifiers: one suite for all of them, against small real receivers that are down at first."""

import hmac
import json
import os
import socket
import socketserver
import ssl
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fairlead.adapters.notify import web
from fairlead.adapters.notify.alertmanager import Alertmanager
from fairlead.adapters.notify.command import Command
from fairlead.adapters.notify.log import LogNotifier
from fairlead.adapters.notify.mail import Mail
from fairlead.adapters.notify.slack import Slack
from fairlead.adapters.notify.webhook import Webhook
from fairlead.adapters.records.memory import MemoryRecords
from fairlead.core.alert import Alert, Figure, Notice, Refused
from fairlead.errors import FairleadError, Invalid, Unavailable
from fairlead.flow.alert import Courier, read
from fairlead.ports import Change, Notifier

ALERT = Alert(
    id=7, service="flights", package="package/flights@" + "a" * 64, monitor="quality", measure="auc",
    cause="auc: 0.61 <below> 0.7 & falling\nsince <!channel> noon", next="look at `fairlead status`",
    seen=(Figure(measure="auc", value=0.61, n=500, low=0.58, high=0.64),), actions=("alert",),
    slices=(Figure(measure="auc", value=0.5, n=90, slice="carrier=UA"),), raised_at=1000.0,
)  # fmt: skip
NOTICE = Notice(key="k1", kind="raised", at=1000.0, alert=ALERT)


class Site:
    """A web server on this machine that answers POSTs with `status` once it is started."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.bodies: list[Any] = []
        self._server: ThreadingHTTPServer | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if site.status == 200:
                    site.headers.append(dict(self.headers))
                    site.paths.append(self.path)
                    site.bodies.append(body)
                self.send_response(site.status)
                if site.status == 302:
                    self.send_header("Location", f"{site.url}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def keys(self) -> list[str]:
        return [h["Idempotency-Key"] for h in self.headers]

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class Post(socketserver.StreamRequestHandler):
    """One session of a small mail server."""

    server: "Office"

    def handle(self) -> None:
        self.say("220 ready")
        while line := self.rfile.readline().decode().strip():
            word = line.partition(" ")[0].upper()
            self.server.heard.append(line)
            if word == "EHLO":
                for each in ("250-office", *(["250-STARTTLS"] if self.server.tls else []), "250 AUTH PLAIN"):
                    self.say(each)
            elif word == "STARTTLS" and self.server.tls:
                self.say("220 go ahead")
                self.request = self.server.tls.wrap_socket(self.request, server_side=True)
                self.rfile, self.wfile = self.request.makefile("rb"), self.request.makefile("wb", 0)
            elif word == "DATA":
                self.say("354 go on")
                mail = b""
                while (row := self.rfile.readline()) != b".\r\n":
                    mail += row
                self.server.mails.append(mail.decode())
                self.say(self.server.verdict)
            elif word == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("235 welcome" if word == "AUTH" else "250 fine")

    def finish(self) -> None:
        super().finish()
        self.request.close()

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


class Office(socketserver.ThreadingTCPServer):
    """A mail server that keeps what it is given."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", port), Post)
        self.tls, self.verdict = tls, "250 taken"
        self.mails: list[str] = []
        self.heard: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is none of our business."""

    def keys(self) -> list[str]:
        ids = [line for m in self.mails for line in m.splitlines() if line.startswith("Message-ID")]
        return [line.partition("<")[2].partition("@")[0] for line in ids]

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


Receiver = tuple[Notifier, Callable[[], None], Callable[[], list[str]]]
"""A notifier, what brings its receiver up, and the keys that arrived."""


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.stop()


@pytest.fixture(params=["webhook", "slack", "alertmanager", "mail", "command", "log"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path, site: Site) -> Iterator[Receiver]:
    url, offices = lambda: site.url, list[Office]()
    match request.param:
        case "webhook":
            yield Webhook(url, allow_private=True), site.start, site.keys
        case "slack":
            yield Slack(url, allow_private=True), site.start, site.keys
        case "alertmanager":
            yield Alertmanager(url, allow_private=True), site.start, site.keys
        case "mail":
            mail = Mail("localhost", site.port, "a@b.example", ["c@d.example"], tls="none", allow_private=True)
            yield mail, lambda: offices.append(Office(site.port)), lambda: offices[0].keys()
            offices[0].stop()
        case "command":
            argv = ["sh", "-c", "test -e up || { echo not up >&2; exit 3; }; cat >> got; echo >> got"]
            command = Command(argv, tmp_path, dict(os.environ))
            yield command, (tmp_path / "up").touch, lambda: keys_in(tmp_path / "got")
        case _:
            yield LogNotifier(tmp_path / "d" / "log"), (tmp_path / "d").mkdir, lambda: keys_in(tmp_path / "d" / "log")


def keys_in(file: Path) -> list[str]:
    return [json.loads(line)["key"] for line in file.read_text().splitlines()]


class Clock:
    at = 1000.0

    def now(self) -> float:
        return self.at


def test_nothing_is_lost_while_a_receiver_is_down(receiver: Receiver) -> None:
    notifier, start, keys = receiver
    records, clock = MemoryRecords(), Clock()
    for_ever = iter(range(0, 10**9, 1000))
    courier = Courier(records, clock, "flights", {"ops": notifier}, start=lambda job: job(),
                      monotonic=lambda: float(next(for_ever)))  # fmt: skip
    courier.turn()
    for name in ("a", "b", "c"):
        records.commit(Change(at=clock.at, actor="t", verb="alert.raised", subject="service/flights",
                              body={"service": "flights", "monitor": name, "package": "p", "cause": "bad"}))  # fmt: skip
    for _ in range(5):
        courier.turn()
    alerts = read(records, "flights")
    assert alerts.posts["ops"].trouble and len(alerts.waiting("ops")) == 3
    start()
    while not courier.idle:
        courier.turn()
    alerts = read(records, "flights")
    assert keys() == [n.key for n in alerts.notices] and len(keys()) == 3
    assert (alerts.posts["ops"].delivered, alerts.posts["ops"].trouble) == (3, "")


def test_a_webhook_is_signed(site: Site) -> None:
    site.start()
    Webhook(lambda: f"{site.url}/in?x=1", lambda: "key", allow_private=True).tell(NOTICE)
    signed = hmac.new(b"key", site.bodies[0], "sha256").hexdigest()
    assert site.headers[0]["X-Fairlead-Signature"] == f"sha256={signed}" and site.paths == ["/in?x=1"]
    told = json.loads(site.bodies[0])
    assert (told["key"], told["kind"], told["alert"]["monitor"]) == ("k1", "raised", "quality")
    assert told["alert"]["seen"] == [{"measure": "auc", "value": 0.61, "n": 500, "low": 0.58, "high": 0.64}]


def test_a_chat_message_calls_nobody(site: Site) -> None:
    site.start()
    Slack(lambda: site.url, allow_private=True).tell(NOTICE)
    body = json.loads(site.bodies[0])
    assert "<" not in site.bodies[0].decode() and "&lt;!channel&gt;" in body["blocks"][1]["text"]["text"]
    assert body["text"].startswith("flights: quality failed: auc: 0.61 &lt;below&gt; 0.7")


def test_alertmanager_knows_an_alert_again_and_when_it_ends(site: Site) -> None:
    site.start()
    manager = Alertmanager(lambda: f"{site.url}/", lambda: "token", allow_private=True)
    manager.tell(NOTICE)
    over = Alert(**{f: getattr(ALERT, f) for f in ALERT.__struct_fields__} | {"ended_at": 2000.0})
    manager.tell(Notice(key="k2", kind="resolved", at=2000.0, alert=over))
    (first,), (last,) = map(json.loads, site.bodies)
    assert first["labels"] == last["labels"] and first["labels"]["alertname"] == "quality"
    assert first["startsAt"] == "1970-01-01T00:16:40.000Z" < first["endsAt"]
    assert last["endsAt"] == "1970-01-01T00:33:20.000Z" and site.paths == ["/api/v2/alerts"] * 2
    assert site.headers[0]["Authorization"] == "Bearer token"


def test_a_mail_is_one_line_of_subject_and_goes_encrypted(tmp_path: Path) -> None:
    key, cert = tmp_path / "key", tmp_path / "cert"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)  # fmt: skip
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    office = Office(tls=server)
    port = office.server_address[1]
    mail = Mail("localhost", port, "a@b.example", ["c@d.example"], user="u", password=lambda: "pw",
                trust=lambda: ssl.create_default_context(cafile=str(cert)), allow_private=True)  # fmt: skip
    mail.tell(NOTICE)
    assert "STARTTLS" in office.heard[1] and office.heard[3].startswith("AUTH PLAIN")
    (text,) = office.mails
    assert "Message-ID: <k1@fairlead>" in text and "Subject: flights: quality failed: auc: 0.61 <below>" in text
    strangers = Mail("localhost", port, "a@b.example", ["c@d.example"], user="u", password=lambda: "pw",
                     allow_private=True)  # fmt: skip
    with pytest.raises(Unavailable, match="localhost"):
        strangers.tell(NOTICE)
    office.tls, office.verdict = None, "554 spam"
    plain = Mail("localhost", port, "a@b.example", ["c@d.example"], tls="none", allow_private=True)
    with pytest.raises(Refused, match="554"):
        plain.tell(NOTICE)
    office.stop()


@pytest.mark.parametrize(("status", "error"), [
    (500, Unavailable), (503, Unavailable), (429, Unavailable), (400, Refused), (422, Refused),
    (401, Invalid), (404, Invalid), (302, Invalid),
])  # fmt: skip
def test_what_an_answer_means(site: Site, status: int, error: type[FairleadError]) -> None:
    site.start()
    site.status = status
    with pytest.raises(error) as found:
        web.post(f"{site.url}/secret-path", b"{}", {}, allow_private=True)
    assert type(found.value) is error and "secret-path" not in str(found.value) + found.value.hint
    assert site.paths == []


@pytest.mark.parametrize("url", [
    "http://example.com/x", "ftp://example.com/", "https://", "https://user:pw@example.com/", "https://[::1",
    "https://127.0.0.1/", "https://localhost/", "https://2130706433/", "https://0x7f000001/", "https://[::1]/",
    "https://[::ffff:127.0.0.1]/", "https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/", "https://10.1.2.3/",
    "https://192.168.0.1/", "https://100.64.0.1/", "https://169.254.169.254/latest", "https://[fe80::1]/",
    "https://0.0.0.0/", "https://[::]/", "https://224.0.0.1/", "https://[fd00:ec2::254]/", "https://x:99999/",
])  # fmt: skip
def test_an_address_that_is_no_public_one_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        web.post(url, b"{}", {})


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest", "http://[fe80::1]/", "http://224.0.0.1/",
                                 "http://[::ffff:169.254.169.254]/", "http://0.0.0.0/"])  # fmt: skip
def test_the_credentials_of_a_cloud_are_out_of_reach_in_any_case(url: str) -> None:
    with pytest.raises(Invalid):
        web.post(url, b"{}", {}, allow_private=True)


def test_a_name_is_resolved_once_and_all_its_addresses_count(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resolver flips its answer at every question; the connection follows the first one."""
    site.start()
    asked: list[str] = []
    answers = iter([["127.0.0.1"], ["169.254.169.254"], ["93.184.216.34", "10.0.0.1"]])

    def flipping(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in next(answers)]

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", flipping)
        web.post(f"http://hooks.example:{site.port}/", b"{}", {}, allow_private=True)
        assert asked == ["hooks.example"] and site.headers[0]["Host"] == f"hooks.example:{site.port}"
        for allow in (True, False):
            with pytest.raises(Invalid, match=r"hooks\.example"):
                web.post("https://hooks.example/", b"{}", {}, allow_private=allow)


def test_a_token_that_is_no_header_stays_unsaid(site: Site) -> None:
    site.start()
    manager = Alertmanager(lambda: site.url, lambda: "one\r\ntwo", allow_private=True)
    with pytest.raises(Unavailable) as found:
        manager.tell(NOTICE)
    assert "one" not in str(found.value) and site.bodies == []


def test_a_program_that_hangs_is_stopped_with_its_children(tmp_path: Path) -> None:
    slow = Command(["sh", "-c", "sleep 100 & echo $! > child; wait"], tmp_path, dict(os.environ), timeout=0.3)
    with pytest.raises(Unavailable, match=r"still running after 0.3 s"):
        slow.tell(NOTICE)
    child = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    deadline = time.monotonic() + 5
    while child.exists() and child.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "the child lives on"


def test_a_program_gets_its_words_unread_by_a_shell(tmp_path: Path) -> None:
    program = tmp_path / "told"
    program.write_text('#!/bin/sh\nprintf "%s|%s" "$1" "$FAIRLEAD_KEY" > out\ncat > /dev/null\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    Command([str(program), "$(touch bad); *"], tmp_path, dict(os.environ)).tell(NOTICE)
    assert (tmp_path / "out").read_text() == "$(touch bad); *|k1" and not (tmp_path / "bad").exists()
    with pytest.raises(Unavailable, match="cannot be started"):
        Command([str(tmp_path / "nothing")], tmp_path, {}).tell(NOTICE)
