"""The service: every door of a gateway, with what each may cost and who may use it."""

import os
from collections.abc import Callable
from time import monotonic, perf_counter
from typing import Any

import msgspec
from msgspec import Struct

from fairlead import __version__
from fairlead.core.contract import Malformed
from fairlead.core.journal import Note
from fairlead.errors import Invalid
from fairlead.serve import tensors
from fairlead.serve.batch import Lane
from fairlead.serve.board import Board
from fairlead.serve.chat import Relay
from fairlead.serve.dispatch import Dispatch
from fairlead.serve.endpoint import Access, Endpoint, Table
from fairlead.serve.http import Exchange
from fairlead.serve.ledger import Ledger
from fairlead.serve.refusal import Refusal, refusal_of
from fairlead.serve.switch import Switch

__all__ = ["NOT_READY", "Service"]

TEXT = b"text/plain; version=0.0.4; charset=utf-8"
ID_LENGTH = 26
NOT_READY = Refusal(status=503, code="unavailable", message="no package is ready",
                     hint="look at /status", retry_after=1)  # fmt: skip


class Told(Struct, forbid_unknown_fields=True):
    """One piece of feedback; `at` in UTC seconds, now when absent."""

    prediction: str
    value: bool | float | str
    name: str = "label"
    at: float | None = None


class Several(Struct, forbid_unknown_fields=True):
    """Many pieces of feedback."""

    feedback: list[Told]


Door = tuple[str, str, Access, int, float, Callable[[Exchange], None]]
"""Method, path, who may call it, bytes of a body, seconds, and what answers."""

_told = msgspec.json.Decoder(Told).decode
_several = msgspec.json.Decoder(Several).decode


class Service:
    """Answers everything that is not a prediction, and hands predictions to `dispatch`."""

    def __init__(
        self, dispatch: Dispatch, switch: Switch, ledger: Ledger, board: Board
    ) -> None:
        self.dispatch, self.switch, self.ledger, self.board = dispatch, switch, ledger, board
        self.relay = Relay(dispatch, board.metrics)
        self.config = dispatch.config
        self._born = monotonic()
        self._noted = board.metrics.counter("fairlead_feedback_total", "Pieces of feedback taken.")

    def table(self) -> Table[Exchange]:
        """All doors. Raises Invalid when one does not declare its limits."""
        config, model = self.config, f"/v2/models/{self.config.service}"
        large, long, chat = config.max_body, config.deadline, self.relay
        own: list[Door] = [
            ("POST", "/predict", "caller", large, long, self.dispatch.predict),
            ("POST", f"{model}/infer", "caller", large, long, self.dispatch.infer),
            ("GET", model, "caller", 0, 1.0, self.model),
        ] if not config.chat else [
            ("POST", "/v1/chat/completions", "caller", large, long, chat.chat),
            ("POST", "/v1/completions", "caller", large, long, chat.complete),
            ("GET", "/v1/models", "caller", 0, 1.0, chat.models),
            ("GET", f"/v1/models/{config.service}", "caller", 0, 1.0, chat.model),
        ]  # fmt: skip
        doors: list[Door] = [
            *own,
            ("POST", "/feedback", "caller", large, long, self.feedback),
            ("GET", "/v2", "anyone", 0, 1.0, self.server),
            ("GET", "/v2/health/live", "anyone", 0, 1.0, self.live),
            ("GET", "/v2/health/ready", "anyone", 0, 1.0, self.ready),
            ("GET", f"{model}/ready", "anyone", 0, 1.0, self.ready),
            ("GET", "/metrics", "operator", 0, 1.0, self.scrape),
            ("GET", "/status", "operator", 0, 1.0, self.status),
        ]
        return Table(
            Endpoint(method=m, path=p, access=a, max_body=b, deadline=d, handler=h)
            for m, p, a, b, d, h in doors
        )

    def feedback(self, exchange: Exchange) -> None:
        """POST /feedback."""
        try:
            notes = [self._note(t) for t in _feedback(exchange.body)]
        except Invalid as error:
            exchange.refuse(refusal_of(error))
            return
        taken = all([self.ledger.note(n) for n in notes])
        self.ledger.sink.commit(lambda logged: self._thank(exchange, len(notes), taken and logged))

    def _thank(self, exchange: Exchange, count: int, logged: bool) -> None:
        if not logged:
            exchange.refuse(Refusal(status=503, code="journal", message="the journal cannot take it now",
                                    hint="send it again: feedback counts once", retry_after=1))  # fmt: skip
            return
        self._noted.n += count
        exchange.answer(202, b'{"accepted":%d}' % count)

    def _note(self, told: Told) -> Note:
        at = self.dispatch.clock.now() if told.at is None else told.at
        return Note(prediction=told.prediction, name=told.name, value=told.value, at=at)

    def server(self, exchange: Exchange) -> None:
        """GET /v2: server metadata."""
        exchange.ok(msgspec.json.encode(
            {"name": "fairlead", "version": __version__, "extensions": ["binary_tensor_data"]}))  # fmt: skip

    def live(self, exchange: Exchange) -> None:
        """GET /v2/health/live: the loop turns, or this would not be answered."""
        exchange.ok(b'{"live":true}')

    def ready(self, exchange: Exchange) -> None:
        """GET /v2/health/ready: somebody would answer a prediction."""
        if self.switch.ready:
            exchange.ok(b'{"ready":true}')
        else:
            exchange.refuse(NOT_READY)

    def model(self, exchange: Exchange) -> None:
        """GET /v2/models/{service}: what the answering package reads and says."""
        plan = self.dispatch.plan
        if plan is None:
            exchange.refuse(NOT_READY)
        else:
            exchange.ok(msgspec.json.encode(
                tensors.describe(self.config.service, plan.baseline.reader)))  # fmt: skip

    def scrape(self, exchange: Exchange) -> None:
        """GET /metrics."""
        exchange.answer(200, self.board.text(), TEXT)

    def status(self, exchange: Exchange) -> None:
        """GET /status: what is in force, who is ready, what waits."""
        exchange.ok(msgspec.json.encode(self.picture()))

    def picture(self) -> dict[str, Any]:
        """The state of this gateway in plain values."""
        plan, target, sink = self.dispatch.plan, self.switch.target, self.ledger.sink
        arms = [] if plan is None else [
            {"package": str(a.package), "weight": a.weight, "mirror": a.mirror} for a in plan.arms
        ]  # fmt: skip
        packages = {str(r): _lane(lane) for r, lane in self.switch.lanes.items()}
        packages |= {str(r): {"state": "broken", "reason": t} for r, t in self.switch.broken.items()}
        return {
            "service": self.config.service,
            "gateway": self.dispatch.ids.gateway,
            "pid": os.getpid(),
            "version": __version__,
            "uptime": round(monotonic() - self._born, 3),
            "ready": self.switch.ready,
            "epoch": None if plan is None else plan.route.epoch,
            "published_epoch": None if target is None else target.epoch,
            "trouble": self.switch.trouble,
            "arms": arms,
            "packages": packages,
            "inside": self.dispatch.gate.inside,
            "journal": {"durability": sink.durability, "waiting": sink.waiting, "lost": sink.lost,
                        "unlogged": self.dispatch.unlogged.n,
                        "refused_unlogged": self.dispatch.denials.passed.n, "trouble": sink.trouble},
        }


def _lane(lane: Lane) -> dict[str, Any]:
    pids = [k.hello.pid for k in lane.links if k.hello is not None]
    reason = lane.defect(perf_counter()) or ""
    state = "failed" if reason else "ready" if lane.up else "down" if lane.ready_once else "loading"
    return {"state": state, "reason": reason, "replicas": pids,
            "breaker": "open" if lane.breaker.open else "closed",
            "sandbox": next((k.hello.sandbox for k in lane.links if k.hello is not None), ())}  # fmt: skip


def _feedback(body: bytes) -> list[Told]:
    """Raises Malformed, or Invalid with a pointer."""
    try:
        told = _several(body).feedback if body.lstrip().startswith(b'{"feedback"') else [_told(body)]
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        pointer = path.rstrip("`").replace("[", "/").replace("]", "").replace(".", "/")
        raise Invalid(text, pointer=pointer,
                      hint='send {"prediction": ID, "value": VALUE, "name"?, "at"?}') from error  # fmt: skip
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(f"the body is not JSON: {error}"[:200],
                        hint='send {"prediction": ID, "value": VALUE}') from error  # fmt: skip
    for i, one in enumerate(told):
        if len(one.prediction) != ID_LENGTH or not one.prediction.isalnum():
            raise Invalid(f"{one.prediction!r:.60} is not a prediction id",
                          hint="send the id of the answer", pointer=f"/feedback/{i}/prediction"
                          if len(told) > 1 else "/prediction")  # fmt: skip
    return told
