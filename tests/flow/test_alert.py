"""The courier: whoever is told, is told in order and without holding up anybody; whatever dies."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fairlead.adapters.records.memory import MemoryRecords
from fairlead.adapters.records.sqlite import SqliteRecords
from fairlead.core.alert import Notice, Refused
from fairlead.core.event import verify
from fairlead.errors import Conflict, FairleadError, Invalid, Missing, Unavailable
from fairlead.flow.alert import FIRST, LONGEST, Courier, acknowledge, read, resolve, silence
from fairlead.ports import Change, Records


class Clock:
    at = 1000.0

    def now(self) -> float:
        return self.at


class Ear:
    """A receiver that hears, or raises what it is told to."""

    def __init__(self, *errors: FairleadError | None) -> None:
        self.errors = list(errors)
        self.heard: list[str] = []

    def tell(self, notice: Notice) -> None:
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        self.heard.append(notice.alert.name)


class Desk:
    """Jobs wait here until somebody runs them, and time passes when it is told to."""

    def __init__(self, records: Records, **receivers: Ear) -> None:
        self.jobs: list[Callable[[], None]] = []
        self.time = 0.0
        self.courier = Courier(records, Clock(), "flights", receivers, start=self.jobs.append,
                               monotonic=lambda: self.time)  # fmt: skip

    def turn(self) -> list[str]:
        """Run what is under way, then turn; the verbs written down."""
        jobs, self.jobs[:] = list(self.jobs), []
        for job in jobs:
            job()
        return [e.verb.removeprefix("alert.") for e in self.courier.turn()]


def raised(records: Records, *names: str) -> None:
    for name in names:
        body = {"service": "flights", "monitor": name, "package": "p", "cause": "bad"}
        records.commit(Change(at=1000.0, actor="t", verb="alert.raised", subject="service/flights", body=body))


def test_a_silent_receiver_holds_up_nobody_else() -> None:
    records, slow, quick = MemoryRecords(), Ear(), Ear()
    desk = Desk(records, slow=slow, quick=quick)
    assert desk.turn() == ["subscribed", "subscribed"]
    raised(records, "a", "b")
    desk.courier.turn()
    hanging = desk.jobs.pop(0)
    for _ in range(4):
        desk.turn()
    assert (slow.heard, quick.heard) == ([], ["a", "b"])
    assert len(desk.jobs) == 0 and not desk.courier.idle
    hanging()
    desk.turn()
    desk.turn()
    assert slow.heard == ["a", "b"] and desk.courier.idle


def test_attempts_grow_rarer_and_a_failure_is_written_down_once() -> None:
    down = [Unavailable("down") for _ in range(12)]
    records = MemoryRecords()
    desk = Desk(records, ops=Ear(*down, Unavailable("still down")))
    desk.turn()
    raised(records, "a")
    waits: list[float] = []
    verbs, since = list[str](), 0.0
    while not desk.courier.idle or not waits:
        verbs += desk.turn()
        if desk.jobs:
            waits.append(desk.time - since)
            since = desk.time
        desk.time += 0.5
    assert waits[1:11] == [min(FIRST * 2**k, LONGEST) + 0.5 for k in range(9)] + [LONGEST + 0.5]
    assert verbs == ["undelivered", "undelivered", "delivered"]
    assert list(records.events())[-1].body["attempts"] == 14


def test_what_is_refused_for_good_does_not_hold_up_the_next() -> None:
    records, ear = MemoryRecords(), Ear(Refused("too long", hint="shorten it"), None)
    desk = Desk(records, ops=ear)
    desk.turn()
    raised(records, "a", "b")
    verbs = [v for _ in range(4) for v in desk.turn()]
    assert verbs == ["refused", "delivered"] and ear.heard == ["b"]
    assert read(records, "flights").posts["ops"].refused == 1


def test_a_wrong_token_loses_nothing() -> None:
    records, ear = MemoryRecords(), Ear(Invalid("refuses with 401", hint="token"))
    desk = Desk(records, ops=ear)
    desk.turn()
    raised(records, "a")
    verbs = desk.turn() + desk.turn()
    assert verbs == ["undelivered"] and ear.heard == []
    desk.time = FIRST
    assert desk.turn() + desk.turn() == ["delivered"] and ear.heard == ["a"]


def test_a_delivery_that_breaks_off_is_tried_again() -> None:
    class Broken(Ear):
        def tell(self, notice: Notice) -> None:
            if not self.heard:
                self.heard.append("broke")
                raise RuntimeError("a bug")
            super().tell(notice)

    records, ear = MemoryRecords(), Broken()
    desk = Desk(records, ops=ear)
    desk.turn()
    raised(records, "a")
    desk.turn()
    with pytest.raises(RuntimeError):
        desk.jobs.pop()()
    assert desk.turn() == ["undelivered"]
    desk.time = FIRST
    assert desk.turn() + desk.turn() == ["delivered"] and ear.heard == ["broke", "a"]


def test_a_new_courier_goes_on_where_the_old_one_stopped() -> None:
    records, first, second = MemoryRecords(), Ear(), Ear()
    desk = Desk(records, ops=first)
    desk.turn()
    raised(records, "a", "b")
    desk.turn()
    desk.turn()
    assert first.heard == ["a"]
    again = Desk(records, ops=second)
    for _ in range(4):
        again.turn()
    assert second.heard == ["b"] and again.courier.idle


def test_what_people_do_needs_an_open_alert_and_a_reason() -> None:
    records, clock = MemoryRecords(), Clock()
    raised(records, "a")
    acknowledge(records, clock, "flights", 1, actor="ann", note="on it")
    assert read(records, "flights").open[0].by == "ann"
    with pytest.raises(Invalid, match="no reason"):
        resolve(records, clock, "flights", 1, actor="ann", reason=" ")
    resolve(records, clock, "flights", 1, actor="ann", reason="fixed")
    with pytest.raises(Conflict, match="fixed"):
        acknowledge(records, clock, "flights", 1, actor="bob")
    with pytest.raises(Missing, match="no alert 9") as found:
        resolve(records, clock, "flights", 9, actor="ann", reason="x")
    assert found.value.hint == "open alerts: none"
    silence(records, clock, "flights", "a", 60.0, actor="ann", reason="upgrade")
    assert read(records, "flights").silenced("a", 1059.0) and not read(records, "flights").silenced("a", 1060.0)
    with pytest.raises(Invalid):
        silence(records, clock, "flights", "a", -1.0, actor="ann", reason="upgrade")


COURIER = """
import sys, time
from pathlib import Path
from fairlead.adapters.clock import open_clock
from fairlead.adapters.notify.webhook import Webhook
from fairlead.adapters.records.sqlite import SqliteRecords
from fairlead.flow.alert import Courier
records = SqliteRecords(Path(sys.argv[1]))
hook = Webhook(lambda: sys.argv[2], allow_private=True)
courier = Courier(records, open_clock(None), "flights", {"ops": hook})
courier.turn()
while not courier.idle:
    courier.turn()
    time.sleep(0.005)
records.close()
"""


def test_kill_9_between_delivery_and_its_record_sends_again_with_the_same_key(tmp_path: Path) -> None:
    keys: list[str] = []
    running: list[subprocess.Popen[bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            keys.append(self.headers["Idempotency-Key"])
            if len(keys) == 2:
                os.kill(running[-1].pid, signal.SIGKILL)
                running[-1].wait()
                return
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    path = tmp_path / "records.db"
    records = SqliteRecords(path)
    body = {"service": "flights", "to": "ops"}
    records.commit(Change(at=1.0, actor="t", verb="alert.subscribed", subject="service/flights", body=body))
    raised(records, "a", "b", "c")
    command = [sys.executable, "-c", COURIER, str(path), f"http://127.0.0.1:{server.server_port}"]
    codes = []
    for _ in range(2):
        running.append(subprocess.Popen(command))
        codes.append(running[-1].wait(20))
    server.shutdown()
    server.server_close()
    a, b, c = (n.key for n in read(records, "flights").notices)
    assert codes == [-signal.SIGKILL, 0] and keys == [a, b, b, c]
    assert read(records, "flights").posts["ops"].delivered == 3
    assert verify(records.events(), records.head()[1]) == 7
    records.close()
