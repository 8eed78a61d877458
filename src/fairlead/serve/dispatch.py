"""Dispatch: who answers a row, what happens when that fails, and what is written down about it."""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Protocol
from urllib.parse import parse_qsl

import msgspec

from fairlead.core.trace import parent_of
from fairlead.errors import FairleadError, Invalid
from fairlead.ports import Clock
from fairlead.serve import tensors, wire
from fairlead.serve.access import Access
from fairlead.serve.batch import GONE, LATE, Ask, Lane
from fairlead.serve.blame import Poison
from fairlead.serve.config import GatewayConfig
from fairlead.serve.denials import Denials
from fairlead.serve.guard import Gate
from fairlead.serve.http import Exchange, Head
from fairlead.serve.ids import Ids
from fairlead.serve.ledger import Ledger
from fairlead.serve.metrics import Metrics
from fairlead.serve.plan import ALL, Plan
from fairlead.serve.reader import Answer
from fairlead.serve.refusal import Refusal, refusal_of
from fairlead.serve.timely import Timely

__all__ = ["FULL", "NOBODY", "UNLOGGED", "Asker", "Call", "Dispatch"]

GATHER = 0.002
"""Seconds in which mirrored rows gather."""
OBJECTS = 16
"""Objects in a body for each row that may wait; above it nobody counts the rows one by one."""
FEATURELESS: dict[str, Any] = {}
"""The features of a row whose online store did not answer in time: all missing, and known to be."""
STATIC = "static"
"""The package of an answer that no model gave."""
NOBODY = Refusal(status=503, code="unavailable", message="no package answers for this service yet",
                  hint="release a package, or wait until it is loaded", retry_after=1)  # fmt: skip
FULL = Refusal(status=429, code="overload", message="too many rows are waiting",
                hint="send fewer at once, or try again in a second", retry_after=1)  # fmt: skip
UNLOGGED = Refusal(status=503, code="journal", message="the prediction log cannot be written",
                    hint="try again; serve.durability: os answers without the log", retry_after=1)  # fmt: skip
_encode = msgspec.json.Encoder().encode


class Answers(msgspec.Struct, omit_defaults=True):
    """The JSON of the answers to several rows."""

    predictions: list[Answer]
    logged: bool = True


class Asker(Protocol):
    """A request, whichever way it came, and how it is answered once."""

    head: Head | None
    id: str

    @property
    def gone(self) -> bool: ...
    @property
    def size(self) -> int: ...
    def ok(self, body: bytes) -> None: ...
    def answer(self, status: int, body: bytes, kind: bytes, headers: bytes) -> None: ...
    def refuse(self, refusal: Refusal) -> None: ...


class Call:
    """One request: its rows, and how their answers are given. `logged`: whether the journal has
    all of them as safely as its level promises."""

    __slots__ = ("answer", "asks", "exchange", "left", "logged")

    def __init__(self, exchange: Asker, answer: Callable[["Call"], None]) -> None:
        self.exchange, self.answer = exchange, answer
        self.asks: Sequence[Ask] = ()
        self.left = 0
        self.logged = True

    @property
    def gone(self) -> bool:
        return self.exchange.gone


class Dispatch:
    """Sends rows to packages and answers callers; `plan` is None until a package may answer."""

    def __init__(
        self, config: GatewayConfig, *, clock: Clock, online: Timely | None, ledger: Ledger,
        metrics: Metrics, access: Access, denials: Denials, ids: Ids, changed: Callable[[Lane], None],
    ) -> None:  # fmt: skip
        self.config, self.clock, self.online, self.ledger = config, clock, online, ledger
        self.denials = denials
        self.access, self.ids, self._changed = access, ids, changed
        self.plan: Plan | None = None
        self.gate = Gate(config.queue)
        self._loop = asyncio.get_running_loop()
        self._now: float | None = None
        self._twins: list[tuple[Lane, Ask]] = []
        self._gathering, self._deadline = False, config.deadline
        counter = metrics.counter
        self.shed = counter("fairlead_shed_total", "Requests refused because too much waited.")
        self.fallbacks = counter("fairlead_fallbacks_total", "Rows another package answered.")
        self.statics = counter("fairlead_static_total", "Rows the static fallback answered.")
        self.unlogged = counter("fairlead_unlogged_total",
                                "Rows that the journal could not take before their answer.")
        self.unanswered = counter("fairlead_unanswered_total", "Rows that nobody answered.")
        self.featureless = counter("fairlead_featureless_total",
                                   "Rows served without their online features.")  # fmt: skip

    # -- requests

    def predict(self, exchange: Exchange) -> None:
        """POST /predict: one row, or {"rows": [...]}."""
        plan, body, started = self.plan, exchange.body, perf_counter()
        if plan is None:
            self.deny(exchange, NOBODY, started)
            return
        if body.startswith(b'{"rows"') and self._several(exchange, plan):
            return
        contract = plan.baseline.reader.contract
        try:
            values = contract.read(body)
        except Invalid as error:
            if not self._several(exchange, plan):
                self.deny(exchange, refusal_of(error), started, body)
            return
        ask = Ask(_unit(exchange), body, started)
        ask.values, ask.contract = values, contract
        self._admit(Call(exchange, self._one), plan, [ask])

    def infer(self, exchange: Exchange) -> None:
        """POST /v2/models/{service}/infer: Open Inference Protocol v2."""
        text = exchange.head.json if exchange.head else -1
        self.question(exchange, lambda: tensors.infer(exchange.body, text), self._inferred)

    def question(
        self, exchange: Asker, read: Callable[[], tensors.Question],
        answer: Callable[[Call, tensors.Inference], None],
    ) -> None:  # fmt: skip
        """Answer the inference request that `read` gives (or raises Invalid), whichever way it came."""
        plan, started = self.plan, perf_counter()
        if plan is None:
            self.deny(exchange, NOBODY, started)
            return
        reader, asks = plan.baseline.reader, []
        try:
            question = read()
            bodies, encoded = tensors.split_inference(question, reader)
        except Invalid as error:
            self.deny(exchange, refusal_of(error), started)
            return
        for i, body in enumerate(bodies):
            ask = Ask(_unit(exchange), body, started)
            try:
                if encoded is None:
                    ask.values, ask.contract = reader.contract.read(body), reader.contract
                else:
                    ask.data = encoded[i]
            except Invalid as error:
                refusal = refusal_of(error)
                pointer = tensors.pointed(error, i)
                refusal = msgspec.structs.replace(refusal, pointer=pointer, violations=())
                self.deny(exchange, refusal, started, body)
                return
            asks.append(ask)
        self._admit(Call(exchange, lambda call: answer(call, question.request)), plan, asks)

    def _several(self, exchange: Exchange, plan: Plan) -> bool:
        """Answer {"rows": [...]}; False when the body is no such thing."""
        contract, started = plan.baseline.reader.contract, perf_counter()
        objects = exchange.body.count(b"{")
        if objects > OBJECTS * self.config.queue:
            self.deny(exchange, self._large(objects), started)
            return True
        bodies = None if "rows" in contract.names else wire.many(exchange.body)
        if bodies is None:
            return False
        asks, unit = [], _unit(exchange)
        for i, body in enumerate(bodies):
            ask = Ask(unit, body, started)
            try:
                ask.values, ask.contract = contract.read(body), contract
            except Invalid as error:
                self.deny(exchange, refusal_of(error, f"/rows/{i}"), started, body)
                return True
            asks.append(ask)
        self._admit(Call(exchange, self._many), plan, asks)
        return True

    def _admit(self, call: Call, plan: Plan, asks: list[Ask]) -> None:
        """Let a request in when there is room, and send its rows on their way."""
        if not asks:
            call.answer(call)
            return
        if len(asks) > self.config.queue:
            self.deny(call.exchange, self._large(len(asks)), asks[0].started)
            return
        if not (plan.baseline.takes(len(asks)) and self.gate.enter(len(asks))):
            self.shed.n += 1
            self.deny(call.exchange, FULL, asks[0].started, asks[0].body if len(asks) == 1 else b"")
            return
        call.asks, call.left = asks, len(asks)
        head = call.exchange.head
        if head is not None and head.trace and (parent := parent_of(head.trace)):
            for ask in asks:
                ask.trace = parent.trace
        if head is not None and head.query and _explain(head.query):
            for ask in asks:
                ask.wanted = True
        self._send(call, plan)

    def deny(self, exchange: Asker, refusal: Refusal, started: float, body: bytes = b"") -> None:
        """Refuse a request before anybody is asked, then write that down. `body`: the row it is about."""
        now = self.clock.now()
        self.ids.at(now)
        exchange.id = exchange.id or self.ids.next()
        exchange.refuse(refusal)
        self.denials.add(exchange.id, _unit(exchange), refusal, body, self.plan, at=now, started=started)

    def _large(self, rows: int) -> Refusal:
        return Refusal(status=413, code="rows", message=f"{rows} rows in one request",
                       hint=f"send at most {self.config.queue}, or raise serve.max_queue")  # fmt: skip

    # -- rows

    def _send(self, call: Call, plan: Plan) -> None:
        """Name the rows of a request, choose who answers each, and who sees it too."""
        now = self._now
        if now is None:
            now = self._now = self.clock.now()
            self.ids.at(now)
            self._loop.call_soon(self._end_turn)
        parts: dict[int, list[Ask]] = {}
        sticky, epoch = plan.baseline.reader.sticky, plan.route.epoch
        for ask in call.asks:
            ask.call, ask.at, ask.id, ask.epoch = call, now, self.ids.next(), epoch
            if sticky >= 0 and ask.values is not None:
                unit = ask.values[sticky]
                ask.unit = ask.unit if unit is None else str(unit)
            ask.unit = ask.unit or ask.id
            # A matrix that the caller encoded fits the baseline: nobody else can read it.
            fate = ALL if ask.values is None else plan.assign(ask.unit)
            ask.propensity = fate.propensity
            if fate.live in parts:
                parts[fate.live].append(ask)
            else:
                parts[fate.live] = [ask]
            for place in fate.mirrors:
                self._twin(ask, plan, place)
        for live, asks in parts.items():
            lane = plan.lanes[live]
            if lane is None:
                self._lost(asks, str(plan.arms[live].package))
            else:
                self._offer(asks, lane)

    def _offer(self, asks: list[Ask], lane: Lane) -> None:
        """Queue rows at a package; what the package cannot take counts as its failure."""
        fit = []
        for ask in asks:
            trouble = self._prepare(ask, lane)
            if trouble is None:
                fit.append(ask)
            else:
                self.failed(lane, [ask], trouble)
        deadline = self._deadline
        trouble = lane.trouble(perf_counter(), deadline if lane.patient else 0.0) if fit else None
        if trouble is not None:
            self.failed(lane, fit, trouble)
            return
        patience = deadline * (1.0 if lane.patient else self.config.candidate_share)
        for ask in fit:
            ask.limit = ask.started + patience
            if ask.fallback:
                lane.put_first(ask)
            else:
                lane.put(ask)

    def _prepare(self, ask: Ask, lane: Lane) -> str | None:
        """Encode a row for a package; why that is impossible, or None."""
        reader = lane.reader
        if ask.values is None:
            return None
        try:
            values = ask.values
            if ask.contract is not reader.contract:
                values = reader.contract.read(ask.body)
            if reader.spec.views:
                try:
                    ask.features = reader.join(values, self.online, ask.at)
                except FairleadError:
                    self.featureless.n += 1
                    ask.features = FEATURELESS
                ask.data = reader.encode(values, ask.features)
            else:
                ask.data = reader.encoder.encode(values)
        except Invalid as error:
            ask.refused = error
            return f"cannot take the row: {error}"
        return None

    def _twin(self, ask: Ask, plan: Plan, place: int) -> None:
        """Note that another package is to see the row, with others of the next moment: nobody waits
        for it, and one batch costs the core much less than many."""
        lane = plan.lanes[place]
        if lane is None:
            self.ledger.dropped(str(plan.arms[place].package))
            return
        twin = Ask(ask.unit, ask.body, ask.started)
        twin.id, twin.at, twin.epoch, twin.trace = ask.id, ask.at, ask.epoch, ask.trace
        twin.values, twin.contract = ask.values, ask.contract
        twin.live, twin.propensity = False, plan.arms[place].mirror
        self._twins.append((lane, twin))

    def _end_turn(self) -> None:
        self._now = None
        if self._twins and not self._gathering:
            self._gathering = True
            self._loop.call_later(GATHER, self._send_twins)

    def _send_twins(self) -> None:
        twins, self._twins, self._gathering = self._twins, [], False
        now = perf_counter()
        for lane, twin in twins:
            twin.started = now
            twin.limit = now + self._deadline
            trouble = lane.defect(now) or self._prepare(twin, lane)
            if trouble is not None:
                self.failed(lane, [twin], trouble)
            elif not (lane.up and lane.breaker.allows(now) and lane.mirror(twin)):
                self.ledger.dropped(lane.reader.name)

    # -- what became of them

    def answered(self, lane: Lane, asks: list[Ask], rows: list[list[float]]) -> None:
        """A package answered: write it down, then tell the callers."""
        for ask, row in zip(asks, rows, strict=True):
            ask.scores, ask.reader = row, lane.reader
        taken = self.ledger.record(lane.reader.name, asks, rows, "")
        if asks[0].live:  # A batch is all live or all mirrored; nobody waits for the latter.
            self._tell(asks, taken)

    def failed(self, lane: Lane, asks: list[Ask], reason: str) -> None:
        """A package failed: the baseline answers, then the static fallback, then nobody."""
        if reason != GONE:
            self.ledger.record(lane.reader.name, asks, [None] * len(asks), reason)
        for ask in asks:
            if ask.live:
                self._fall_back(ask, lane, reason)

    def changed(self, lane: Lane) -> None:
        self._changed(lane)

    def _lost(self, asks: list[Ask], package: str) -> None:
        reason = "the package cannot be read"
        self.ledger.record(package, asks, [None] * len(asks), reason)
        for ask in asks:
            self._fall_back(ask, None, reason)

    def _fall_back(self, ask: Ask, lane: Lane | None, reason: str) -> None:
        plan = self.plan
        again = reason != GONE and not ask.fallback and ask.values is not None
        if again and plan is not None and lane is not plan.baseline:
            ask.fallback, ask.alone, ask.refused = True, False, None
            self.fallbacks.n += 1
            self._offer([ask], plan.baseline)
            return
        ask.late = reason == LATE
        self._tell([ask], True)

    def _tell(self, asks: list[Ask], taken: bool) -> None:
        """Settle the live rows once the journal has them."""
        self.ledger.sink.commit(lambda logged: self._told(asks, taken and logged))

    def _told(self, asks: list[Ask], logged: bool) -> None:
        for ask in asks:
            if ask.live:
                call: Call = ask.call
                call.logged &= logged
                call.left -= 1
                if not call.left:
                    self._settle(call)

    def _settle(self, call: Call) -> None:
        """All rows of a request are done with: answer it."""
        self.gate.leave(len(call.asks))
        if call.exchange.gone:
            return
        bare = [a for a in call.asks if a.scores is None]
        if bare and self.config.fallback is None:
            self.unanswered.n += len(bare)
            call.exchange.id = bare[0].id
            pointer = f"/rows/{call.asks.index(bare[0])}" if call.answer == self._many else ""
            call.exchange.refuse(_no_answer(bare[0], pointer))
            return
        if not call.logged:
            self.unlogged.n += len(call.asks)
            if self.config.durability == "fsync":
                call.exchange.refuse(UNLOGGED)
                return
        self.statics.n += len(bare)
        call.exchange.id = call.asks[0].id
        call.answer(call)
        plan = self.plan
        self.access.answered(call.exchange, call.asks, plan.baseline.reader if plan else None)
        call.asks = ()  # A row names its request: without this the two would wait for the collector.

    # -- the forms of an answer

    def _answer(self, ask: Ask) -> Answer:
        if ask.reader is not None and ask.scores is not None:
            answer = ask.reader.answer(ask.id, ask.scores, ask.fallback)
            answer.features = ask.features is not FEATURELESS
            return answer
        plan, said = self.plan, self.config.fallback
        if plan is not None and plan.baseline.reader.spec.task == "regression":
            return Answer(ask.id, STATIC, True, value=said)
        return Answer(ask.id, STATIC, True, said)

    def _one(self, call: Call) -> None:
        answer = self._answer(call.asks[0])
        answer.logged = call.logged
        call.exchange.ok(_encode(answer))

    def _many(self, call: Call) -> None:
        call.exchange.ok(_encode(Answers(list(map(self._answer, call.asks)), call.logged)))

    def respond(self, call: Call, request: tensors.Inference) -> dict[str, Any]:
        """The answer to an inference request in plain values."""
        rows = [tensors.Row(a.id, a.reader.name if a.reader else STATIC, a.reader, a.scores,
                            a.fallback or a.reader is None) for a in call.asks]  # fmt: skip
        return tensors.respond(request, self.config.service, rows, call.logged)

    def _inferred(self, call: Call, request: tensors.Inference) -> None:
        text, blob = tensors.spell_inference(request, self.respond(call, request))
        if blob is None:
            call.exchange.ok(text)
        else:
            call.exchange.answer(200, text + blob, b"application/octet-stream",
                                 b"inference-header-content-length: %d\r\n" % len(text))  # fmt: skip


def _unit(exchange: Asker) -> str:
    return exchange.head.unit if exchange.head is not None else ""


def _explain(query: bytes) -> bool:
    """Whether the caller wants the answer explained later: ``?explain=true``."""
    return dict(parse_qsl(query.decode("latin-1").lower())).get("explain") in ("true", "1", "yes")


def _no_answer(ask: Ask, pointer: str) -> Refusal:
    if ask.refused is not None:
        code = "poison" if isinstance(ask.refused, Poison) else "unseen"
        return msgspec.structs.replace(refusal_of(ask.refused, pointer), code=code)
    if ask.late:
        return Refusal(status=503, code="deadline", message="no answer in time", retry_after=1,
                       hint="try again, with fewer rows at once if there were many")  # fmt: skip
    return Refusal(status=503, code="unavailable", message="the package that should answer failed",
                   hint="try again; the journal has the reason under this id", retry_after=1)  # fmt: skip
