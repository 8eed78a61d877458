"""Chats over the real gateway and a provider that nobody mocks: whole, streamed, broken, and gone."""

import asyncio
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fairlead.core.artifact import PackageSpec
from fairlead.core.chat import OPENAI, PROVIDER, Provider
from fairlead.core.encoding import Encoding
from fairlead.core.journal import Batch
from fairlead.core.manifest import PriceText
from fairlead.core.ref import Ref, canonical, digest
from fairlead.core.schema import Schema
from fairlead.core.traffic import Arm
from fairlead.errors import Invalid, Unavailable
from fairlead.serve.upstream import Upstream

if TYPE_CHECKING:
    from tests.serve.conftest import Plant

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / ".oip" / "openai" / "bin" / "python"
"""`make test-oip` puts OpenAI's client there."""
KEY, OTHER = "sk-right-0123456789", "sk-wrong-9876543210"
PROMPT = "Returns: you can return shoes within 30 days."
PATH = "/v1/chat/completions"
ASKED = {"model": "any", "messages": [{"role": "user", "content": "How do I return shoes?"}]}


class Desk:
    """A served plant and its provider; `release` publishes packages and waits for them."""

    def __init__(self, plant: "Plant", url: str) -> None:
        self.plant, self.url = plant, url

    def package(self, model: str = "stand-in", **changes: Any) -> Ref:
        made = Provider(**{"url": self.url, "model": model, "key_env": "HELPDESK_KEY", "system": PROMPT, "timeout": 5.0,
                           "first_token": 2.0, "price": PriceText(prompt=1.0, completion=2.0), "allow_private": True, **changes})  # fmt: skip
        data = canonical(made)
        spec = PackageSpec(model=Ref("model", "m", sha256(data).hexdigest()), flavor=OPENAI, task="chat",
                           contract=Schema(columns=()), encoding=Encoding(()), files={PROVIDER: sha256(data).hexdigest()})  # fmt: skip
        ref = Ref("package", "m", digest(spec))
        folder = self.plant.state / "packages" / ref.digest
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_bytes(canonical(spec))
        (folder / PROVIDER).write_bytes(data)
        return ref

    def release(self, *arms: Ref | Arm, **changes: Any) -> None:
        route = self.plant.publish(*arms, **changes)
        self.plant.wait(lambda: self.plant.status()["epoch"] == route.epoch)

    def ask(self, **changes: Any) -> tuple[int, Any]:
        return self.plant.ask({**ASKED, **changes}, PATH)

    def stream(self, **changes: Any) -> list[Any]:
        """The events of a stream, "[DONE]" as it is."""
        status, data = self.plant.raw({**ASKED, "stream": True, **changes}, PATH)
        assert status == 200, data
        events = data.decode().split("\n\n")
        assert events.pop() == ""
        said = [e.removeprefix("data: ") for e in events if not e.startswith(":")]
        return [e if e == "[DONE]" else json.loads(e) for e in said]

    def open(self, **changes: Any) -> socket.socket:
        """A caller that has asked and reads what it likes."""
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
        line.settimeout(5)
        line.connect(("127.0.0.1", self.plant.port))
        body = json.dumps({**ASKED, "stream": True, **changes}).encode()
        line.sendall(b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (PATH.encode(), len(body), body))
        return line

    def seen(self) -> dict[str, Any]:
        """What the provider saw."""
        line = http.client.HTTPConnection(self.url.split("/")[2])
        line.request("GET", "/seen")
        found: dict[str, Any] = json.loads(line.getresponse().read())
        line.close()
        return found

    def rows(self, prediction: str) -> list[dict[str, Any]]:
        return [r for r in self.plant.rows() if r["id"] == prediction]


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, str(ROOT / "examples" / "helpdesk" / "upstream.py"), "0"],
                               stdout=subprocess.PIPE, text=True, env={**os.environ, "HELPDESK_KEY": KEY})  # fmt: skip
    assert process.stdout is not None
    found = re.search(r"http\S+", process.stdout.readline())
    assert found is not None
    yield found[0]
    process.terminate()
    process.wait()
    process.stdout.close()


@pytest.fixture(scope="module")
def desk(provider: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    from tests.serve.conftest import Plant

    made = Desk(Plant(tmp_path_factory.mktemp("desk")), provider)
    made.plant.publish(made.package())
    made.plant.start(chat=True, sticky_by="user", durability="fsync", env={"HELPDESK_KEY": KEY, "WRONG_KEY": OTHER})
    yield made
    assert made.plant.stop() == 0


@pytest.fixture
def good(desk: Desk) -> Ref:
    ref = desk.package()
    desk.release(ref)
    return ref


def joined(events: list[Any]) -> str:
    return "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e != "[DONE]" and e["choices"])


def test_an_answer_is_relayed_named_and_written_down(desk: Desk, good: Ref) -> None:
    status, answer = desk.ask(user="ann", max_tokens=400)
    assert status == 200 and answer["choices"][0]["message"]["content"] == PROMPT
    assert answer["package"] == str(good) and "fallback" not in answer
    (row,) = desk.rows(answer["id"])
    cost, prompt, completion, first = row["output"]
    assert (prompt, completion) == (13, 8) and cost == pytest.approx(0.029) and 0 < first <= row["latency"]
    assert row["unit"] == "ann" and json.loads(row["body"])["user"] == "ann" and row["error"] == ""
    asked = desk.seen()["last"]
    assert asked["model"] == "stand-in" and asked["messages"][0] == {"role": "system", "content": PROMPT}
    text = desk.plant.ask({"prompt": "hi"}, "/v1/completions")[1]["choices"][0]["text"]
    assert text.endswith("hi") and PROMPT in text
    assert desk.plant.ask(path="/v1/models")[1]["data"][0]["id"] == "m"


def test_a_stream_comes_in_order_and_says_what_the_whole_answer_says(desk: Desk, good: Ref) -> None:
    before = desk.seen()["connections"]
    events = desk.stream()
    assert events[-1] == "[DONE]" and joined(events) == PROMPT
    assert len({e["id"] for e in events[:-1]}) == 1 and events[0]["package"] == str(good)
    assert all(e["choices"] for e in events[:-1]), "nobody asked for the usage"
    (row,) = desk.rows(events[0]["id"])
    assert row["output"][1:3] == [13, 8] and row["output"][3] < row["latency"]
    told = desk.stream(stream_options={"include_usage": True})
    assert told[-2]["usage"]["completion_tokens"] == 8 and joined(told) == PROMPT
    assert desk.seen()["connections"] - before <= 2, "the second stream went where the first one did"


@pytest.mark.parametrize("manner", ["slow", "mute"])
def test_a_provider_stops_within_100_ms_of_its_caller(desk: Desk, manner: str) -> None:
    """Promise R26, while tokens come, and before the first one did."""
    desk.release(desk.package(f"stand-in-{manner}", first_token=10.0, timeout=20.0))
    count = desk.seen()["requests"]
    line = desk.open()
    if manner == "slow":
        while b"Returns" not in line.recv(65536):
            pass
    desk.plant.wait(lambda: desk.seen()["requests"] > count)
    line.close()
    left = time.monotonic()
    desk.plant.wait(lambda: desk.seen()["gone_at"] > left, 2.0)
    assert desk.seen()["gone_at"] - left < 0.1
    desk.plant.wait(lambda: said(desk)["finish_reason"] == "gone")
    assert desk.plant.rows()[-1]["error"] == "" and desk.plant.status()["inside"] == 0


def said(desk: Desk) -> Any:
    """What the newest row of the journal says in words."""
    return next(b.said[-1] for b in reversed(desk.plant.entries()) if isinstance(b, Batch) and b.said)


def test_a_stream_that_breaks_off_ends_with_an_error_and_counts(desk: Desk) -> None:
    desk.release(desk.package("stand-in-dying"))
    events = desk.stream()
    assert "[DONE]" not in events and joined(events[:-1]) == "Returns: you can"
    assert events[-1]["error"]["code"] == "unavailable"
    (row,) = desk.rows(events[0]["id"])
    assert "middle" in row["error"] and row["output"] is None and said(desk)["answer"] == "Returns: you can"


@pytest.mark.parametrize("manner", ["broken", "busy", "moved", "mute", "faint", "away"])
def test_the_baseline_answers_while_nothing_was_said(desk: Desk, manner: str) -> None:
    bad, baseline = desk.package(f"stand-in-{manner}", first_token=0.2, timeout=0.2), desk.package()
    if manner == "away":
        bad = desk.package(url="http://127.0.0.1:9/v1")
    desk.release(baseline, Arm(bad, 0.0), pins={"ann": bad})
    answer = desk.ask(user="ann")[1]
    events = desk.stream(user="ann")
    if manner == "faint":  # Whole answers it can give.
        answer = events[0]
    for found, package in ((answer, answer["package"]), (events[0], events[0]["package"])):
        assert package == str(baseline) and found["fallback"] is True
        failed, stood_in = desk.rows(found["id"])
        assert failed["package"] == str(bad) and failed["error"] and not failed["fallback"]
        assert stood_in["package"] == str(baseline) and stood_in["fallback"] and not stood_in["error"]
    assert joined(events) == PROMPT


def test_whose_fault_a_refused_question_is(desk: Desk) -> None:
    choosy, baseline = desk.package("stand-in-choosy"), desk.package()
    desk.release(choosy)
    before = len(desk.plant.rows())
    status, told = desk.ask()
    assert (status, told["error"]["message"]) == (400, "this question is not for me")
    assert len(desk.plant.rows()) == before, "no failure of a package"
    desk.release(choosy, Arm(desk.package("too-choosy"), 0.0, mirror=1.0))
    count, before = desk.seen()["requests"], len(desk.plant.rows())
    assert desk.ask()[0] == 400
    desk.plant.wait(lambda: desk.seen()["requests"] == count + 2)
    desk.release(baseline, Arm(choosy, 0.0), pins={"ann": choosy})
    status, answer = desk.ask(user="ann")
    assert status == 200 and answer["fallback"]
    assert {r["id"] for r in desk.plant.rows()[before:]} == {answer["id"]}, "nor of the shadow's"
    desk.plant.wait(lambda: [r["package"] for r in desk.rows(answer["id"]) if r["error"]] == [str(choosy)])
    status, told = desk.ask(messages=[])
    assert (status, told["error"]["pointer"]) == (422, "/messages")


def test_a_busy_provider_is_told_as_such(desk: Desk) -> None:
    desk.release(desk.package("stand-in-busy"))
    status, told = desk.ask()
    assert (status, told["error"]["code"]) == (429, "busy")


def test_a_key_is_shown_to_the_provider_and_to_nobody_else(desk: Desk) -> None:
    """Promise S16: this provider repeats the key it refuses."""
    desk.release(desk.package(key_env="WRONG_KEY"))
    status, told = desk.ask()
    assert status == 503
    desk.release(desk.package(key_env="UNSET_KEY"))
    assert desk.ask()[0] == 503
    desk.release(desk.package())
    assert desk.ask()[0] == 200
    desk.plant.wait(lambda: desk.plant.status()["journal"]["waiting"] == 0)
    written = b"".join(p.read_bytes() for p in desk.plant.root.rglob("*") if p.is_file() and not p.is_symlink())
    for key in (KEY, OTHER):
        assert key.encode() not in written and key not in json.dumps(told)
        assert key.encode() not in desk.plant.raw(path="/metrics")[1] + desk.plant.raw(path="/status")[1]
    assert "environment variable UNSET_KEY" in desk.plant.rows()[-2]["error"]


def test_a_shadow_is_asked_and_not_heard(desk: Desk) -> None:
    baseline, shadow = desk.package(), desk.package(parameters={"max_tokens": 2})
    desk.release(baseline, Arm(shadow, 0.0, mirror=1.0))
    answer = desk.ask(user="ann")[1]
    assert answer["package"] == str(baseline)
    desk.plant.wait(lambda: len(desk.rows(answer["id"])) == 2)
    twin = next(r for r in desk.rows(answer["id"]) if not r["live"])
    assert twin["package"] == str(shadow) and twin["output"][2] == 2


def test_old_pipelining_and_half_closed_callers_get_their_streams(desk: Desk, good: Ref) -> None:
    body = json.dumps({**ASKED, "stream": True}).encode()
    asked = b"POST %b HTTP/%b\r\nhost: localhost\r\n%bcontent-length: %d\r\n\r\n%b"
    old = desk.plant.speak(asked % (PATH.encode(), b"1.0", b"", len(body), body))
    head, _, text = old.partition(b"\r\n\r\n")
    assert b"chunked" not in head and text.startswith(b"data: {") and text.endswith(b"data: [DONE]\n\n")
    first = asked % (PATH.encode(), b"1.1", b"", len(body), body)
    last = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    both = desk.plant.speak(first + last)
    desk.release(desk.package("stand-in-slow"))
    with desk.open() as line:
        line.shutdown(socket.SHUT_WR)  # It says no more, and still listens.
        heard = b"".join(iter(lambda: line.recv(65536), b""))
    assert heard.endswith(b"0\r\n\r\n") and heard.count(b"HTTP/1.1") == 1
    assert both.index(b"[DONE]") < both.index(b'"object":"list"') and both.count(b"HTTP/1.1 200") == 2


def test_what_a_thousand_questions_cost_is_shown(desk: Desk, good: Ref) -> None:
    desk.ask()
    cost = desk.plant.counted("fairlead_cost_per_thousand", str(good))
    assert 20 < cost < 70
    assert desk.plant.counted("fairlead_tokens_total", str(good), "prompt") >= 13


def test_a_caller_who_does_not_read_holds_its_provider_back(desk: Desk) -> None:
    """Of eight megabytes the gateway keeps next to nothing: what is not read is not asked for."""
    desk.release(desk.package("stand-in-flood"))
    gateway = Path(f"/proc/{desk.plant.status()['pid']}/status")
    before = int(re.findall(r"VmHWM:\s+(\d+)", gateway.read_text())[0])
    line = desk.open()
    desk.plant.wait(lambda: desk.seen()["held"] > 2**20, 5.0)
    heard, size = b"", 0
    while not heard.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
        more = line.recv(2**20)
        assert more, "the stream ended before its end"
        heard, size = (heard + more)[-100:], size + len(more)
    line.close()
    grown = int(re.findall(r"VmHWM:\s+(\d+)", gateway.read_text())[0]) - before
    assert size > 8e6 and grown < 4096, f"{grown} kB"


@pytest.mark.skipif(not CLIENT.exists(), reason="OpenAI's client is not installed: `make test-oip` gets and runs it")
def test_openai_s_client_is_answered(desk: Desk) -> None:
    baseline, dying = desk.package(), desk.package("stand-in-dying")
    desk.release(baseline, Arm(dying, 0.0), pins={"dying": dying})
    run = subprocess.run([CLIENT, ROOT / "tests" / "serve" / "openai_client.py", f"http://127.0.0.1:{desk.plant.port}"],
                         capture_output=True, text=True, timeout=60)  # fmt: skip
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert said["whole"] == said["stream"] == PROMPT and said["used"] == [8, 8] and said["models"] == ["m"]
    assert said["text"].endswith("hi") and said["package"] == str(baseline)
    assert said["broken"].startswith("the package") and said["refused"] == "there are no messages"
    assert desk.rows(said["id"])[0]["unit"] == "ann"
    assert desk.plant.ask({"prediction": said["id"], "name": "thumbs", "value": True}, "/feedback")[0] == 202


def test_a_provider_is_who_its_certificate_says(tmp_path: Path) -> None:
    """Promise S11: nobody's own certificate is believed, and no private address is connected to."""
    made = subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
                           "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"], capture_output=True)  # fmt: skip
    assert made.returncode == 0, made.stderr
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")

    async def ask(url: str, allow_private: bool) -> str:
        server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        upstream = Upstream(url.replace("PORT", str(port)), allow_private=allow_private)
        with pytest.raises((Unavailable, Invalid)) as error:
            async with upstream.post("/chat/completions", b"{}", ""):
                pass
        server.close()
        return str(error.value)

    assert "certificate" in asyncio.run(ask("https://localhost:PORT/v1", True)).lower()
    assert "private" in asyncio.run(ask("https://localhost:PORT/v1", False))
    assert "private" in asyncio.run(ask("http://169.254.169.254:PORT/v1", True))


def test_streams_are_finished_before_the_gateway_stops(provider: str, tmp_path: Path) -> None:
    """Promise R22."""
    from tests.serve.conftest import Plant

    desk = Desk(Plant(tmp_path), provider)
    desk.plant.publish(desk.package("stand-in-slow"))
    desk.plant.start(chat=True, env={"HELPDESK_KEY": KEY})
    line = desk.open()
    heard = line.recv(65536)
    assert desk.plant.stop() == 0
    while more := line.recv(65536):
        heard += more
    line.close()
    assert heard.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
