"""What becomes of a request outside its answer: traces, spans, access log, metrics."""

import json
import os
import signal
import threading
from collections import Counter as Counts
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fairlead.core.trace import span_of, trace_of
from fairlead.core.traffic import Arm
from fairlead.serve import access
from fairlead.serve.access import AccessLog, Seen
from fairlead.serve.metrics import Counter
from fairlead.serve.tracer import Share

if TYPE_CHECKING:
    from tests.serve.conftest import Plant

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Receiver:
    """The smallest receiver of OTLP over HTTP: keeps every span, or answers 503."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        self.services: set[str] = set()
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/json")
                if receiver.status == 200:
                    receiver.take(body)
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def take(self, body: dict[str, Any]) -> None:
        for resource in body["resourceSpans"]:
            self.services |= {tags(resource["resource"])["service.name"]}
            self.spans += [s for scope in resource["scopeSpans"] for s in scope["spans"]]

    def of(self, prediction: str) -> list[dict[str, Any]]:
        return [s for s in self.spans if tags(s)["fairlead.prediction"] == prediction]


def tags(span: dict[str, Any]) -> dict[str, str]:
    return {a["key"]: next(iter(a["value"].values())) for a in span["attributes"]}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.thread.join()
    made.server.server_close()


def lines(plant: "Plant") -> list[dict[str, Any]]:
    path = plant.state / "predictions" / "access.jsonl"
    return [json.loads(x) for x in path.read_bytes().splitlines()] if path.exists() else []


def test_a_trace_is_continued_and_kept_with_the_prediction(served: "Plant", row: dict[str, Any]) -> None:
    asked = f"POST /predict HTTP/1.1\r\nhost: localhost\r\ntraceparent: 00-{TRACE}-{SPAN}-01\r\n" \
            f"connection: close\r\ncontent-length: {len(json.dumps(row))}\r\n\r\n{json.dumps(row)}"  # fmt: skip
    head, _, body = served.speak(asked.encode()).partition(b"\r\n\r\n")
    prediction = json.loads(body)["id"]
    assert f"traceparent: 00-{TRACE}-{span_of(prediction, 'gateway')}-01".encode() in head
    batch = served.wait(lambda: next((e for e in served.entries() if getattr(e, "ids", 0) == [prediction]), None))
    assert batch.traces == [TRACE]
    # Without a valid one nothing is said: the id is the trace.
    for given in (b"", b"traceparent: 00-0-0-00\r\n"):
        head = served.speak(b"GET /v2 HTTP/1.0\r\n" + given + b"\r\n").partition(b"\r\n\r\n")[0]
        assert b"200 OK" in head and b"traceparent" not in head


def test_sampled_spans_reach_a_receiver(plant: "Plant", receiver: Receiver, row: dict[str, Any]) -> None:
    old, new = plant.package(), plant.package("value")
    plant.publish(Arm(old, 1.0))
    plant.start(trace_to=receiver.url, trace_share=0.5)
    alone = [plant.ask(row)[1]["id"] for _ in range(10)]
    joined = plant.ask(row, traceparent=f"00-{TRACE}-{SPAN}-01")[1]["id"]
    silent = plant.ask(row, traceparent=f"00-{TRACE}-{SPAN}-00")[1]["id"]
    wrong = plant.ask({}, traceparent=f"00-{TRACE}-{SPAN}-01")[1]["error"]["id"]
    plant.wait(lambda: len(receiver.spans) == 5 * 2 + 2 + 1)
    assert [bool(receiver.of(i)) for i in alone] == [False, True] * 5 and not receiver.of(silent)
    gateway, replica = receiver.of(joined)
    assert (gateway["traceId"], gateway["parentSpanId"]) == (TRACE, SPAN)
    assert gateway["spanId"] == span_of(joined, "gateway") == replica["parentSpanId"]
    assert gateway["name"] == "POST /predict" and replica["traceId"] == TRACE
    assert tags(gateway)["fairlead.package"] == str(old) != str(new)
    times = [int(s[f"{end}TimeUnixNano"]) for end in ("start", "end") for s in (gateway, replica)]
    assert times[0] <= times[1] <= times[3] and times[0] < times[2]
    assert receiver.of(alone[1])[0]["traceId"] == trace_of(alone[1])
    refused = receiver.of(wrong)[0]
    assert refused["status"]["code"] == 2 and tags(refused)["error.type"] == "missing"
    assert receiver.services == {"m"}
    receiver.status = 503
    assert plant.ask(row, traceparent=f"00-{TRACE}-{SPAN}-01")[0] == 200
    plant.wait(lambda: plant.counted("fairlead_spans_dropped_total") == 2)


def test_every_request_has_its_line(plant: "Plant", row: dict[str, Any]) -> None:
    old, new = plant.package(), plant.package("nan")
    plant.publish(Arm(old, 0.5), Arm(new, 0.5))
    plant.start(access_log=1.0, gateways=2)
    plant.wait(lambda: all(p["state"] == "ready" for p in plant.status()["packages"].values()))
    answers = [plant.ask(row | {"distance": d}) for d in (1.0, -1.0) for _ in range(20)]
    many = plant.ask({"rows": [row] * 30})[1]["predictions"]
    error = plant.ask({"distance": 1})[1]["error"]
    found = plant.wait(lambda: len(x := lines(plant)) == 42 and x)
    by_id = {line["id"]: line for line in found}
    for _, answer in answers:
        line = by_id[answer["id"]]
        assert (line["code"], line["package"], line["path"]) == (200, answer["package"], "/predict")
        arm = "fallback" if answer.get("fallback") else "baseline" if answer["package"] == str(old) else "candidate"
        assert line["arm"] == arm and line["ms"] > 0 and line["bytes"] > 100 and line["rows"] == 1
        assert line["trace"] == trace_of(answer["id"])
    assert {line["arm"] for line in found} == {"baseline", "candidate", "fallback", "several", ""}
    assert by_id[many[0]["id"]]["rows"] == 30 and by_id[many[0]["id"]]["arm"] == "several"
    refused = by_id[error["id"]]
    assert (refused["code"], refused["error"], refused["package"]) == (422, "missing", "")
    plant.wait(lambda: plant.counted("fairlead_requests_total", 'code="200"') == 41)
    arms = [line["arm"] for line in found if line["arm"]]
    assert {a: plant.counted("fairlead_requests_total", f'arm="{a}"') for a in arms} == Counts(arms)


def test_a_sample_is_even_and_refusals_are_all_there(plant: "Plant", row: dict[str, Any]) -> None:
    plant.publish(plant.package())
    plant.start(access_log=0.25)
    for i in range(40):
        plant.ask(row if i % 2 else {})
    plant.wait(lambda: len(lines(plant)) == 5 + 20)
    assert sorted({x["code"] for x in lines(plant)}) == [200, 422]
    share = Share(0.25)
    assert [share.yes() for _ in range(8)] == [False, False, False, True] * 2


def test_the_log_is_moved_and_a_disk_that_hangs_costs_lines_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "ROTATE", 1000)
    path, lost = tmp_path / "access.jsonl", Counter()
    logs = [AccessLog(path, 1.0, lost) for _ in range(2)]
    seen = Seen(1.0, "x" * 26, "/predict", 200, "p", "baseline", 1, 1.0, 100, "t" * 32)
    for _ in range(20):
        for log in logs:
            log.add(seen)
            log.flush()
    for log in logs:
        log.close()
    kept = path.read_bytes() + path.with_name("access.jsonl.1").read_bytes()
    assert path.stat().st_size < 1400 and {json.loads(x)["id"] for x in kept.splitlines()} == {"x" * 26}
    assert lost.n == 0
    monkeypatch.setattr(access, "WAITING", -1)
    log = AccessLog(path, 1.0, lost)
    log.add(seen)
    log.close()
    assert lost.n == 1


def cells(plant: "Plant") -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """As Prometheus reads them, asked of whichever gateway takes the connection."""
    from prometheus_client.parser import text_string_to_metric_families

    plant.hang_up()
    text = plant.raw(path="/metrics")[1].decode()
    return {(s.name, tuple(sorted(s.labels.items()))): s.value
            for family in text_string_to_metric_families(text) for s in family.samples}  # fmt: skip


def asked_both(plant: "Plant", row: dict[str, Any]) -> bool:
    """Ask once more; whether both gateways have answered somebody: which one does is the kernel's choice."""
    plant.hang_up()
    plant.ask(row)
    return len({dict(k[1]).get("gateway") for k in cells(plant)} - {None}) == 2


def test_metrics_are_read_by_prometheus_and_never_fall(plant: "Plant", row: dict[str, Any]) -> None:
    pytest.importorskip("prometheus_client", reason="prometheus_client is not installed: no parser to ask")
    package = plant.package()
    plant.publish(package)
    plant.start(gateways=2, cpu_hour_price=36.0)
    last: dict[Any, float] = {}
    for _ in range(15):
        for _ in range(4):
            plant.hang_up()
            assert plant.ask(row)[0] == 200
        now = cells(plant)
        falling = [k for k, v in last.items() if k[0].endswith(("_total", "_bucket", "_count")) and now[k] < v]
        assert not falling
        last = now

    def total(name: str, **labels: str) -> float:
        return sum(v for (n, ls), v in cells(plant).items() if n == name and labels.items() <= dict(ls).items())

    plant.wait(lambda: total("fairlead_requests_total", code="200", arm="baseline") == 60)
    assert total("fairlead_latency_seconds_count", package=str(package)) == 60
    plant.wait(lambda: asked_both(plant, row))
    for name in ("fairlead_resident_bytes", "fairlead_cpu_seconds_total", "fairlead_open_files"):
        assert {dict(ls)["process"] for n, ls in last if n == name} == {"gateway", "replica", "supervisor"}
    assert 0 < total("fairlead_cost_per_thousand", package=str(package)) < 1000
    for name in ("fairlead_queue_rows", "fairlead_in_flight_rows", "fairlead_journal_lag_seconds",
                 "fairlead_journal_lost_total", "fairlead_replica_restarts_total"):  # fmt: skip
        assert any(n == name for n, _ in last) and total(name) == 0
    before = total("fairlead_cpu_seconds_total", process="replica")
    os.kill(plant.status()["packages"][str(package)]["replicas"][0], signal.SIGKILL)
    plant.wait(lambda: total("fairlead_replica_restarts_total", package=str(package)) == 2)
    plant.wait(lambda: plant.status()["packages"][str(package)]["replicas"])
    assert total("fairlead_cpu_seconds_total", process="replica") >= before
