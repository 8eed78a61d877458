"""Dispatch: who answers a row, what happens when that fails, and what is written down about it."""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter

import msgspec

from fairlead.errors import FairleadError, Invalid
from fairlead.ports import Clock, Online
from fairlead.serve import tensors, wire
from fairlead.serve.batch import GONE, LATE, Ask, Lane
from fairlead.serve.config import GatewayConfig
from fairlead.serve.guard import Gate
from fairlead.serve.http import Exchange
from fairlead.serve.ids import Ids
from fairlead.serve.ledger import Ledger
from fairlead.serve.metrics import Metrics
from fairlead.serve.plan import ALL, Plan
from fairlead.serve.refusal import Refusal, refusal_of

__all__ = ["Call", "Dispatch"]

STATIC = "static"
"""The package of an answer that no model gave."""
_NOBODY = Refusal(status=503, code="unavailable", message="no package answers for this service yet",
                  hint="release a package, or wait until it is loaded", retry_after=1)  # fmt: skip
_FULL = Refusal(status=429, code="overload", message="too many rows are waiting",
                hint="send fewer at once, or try again in a second", retry_after=1)  # fmt: skip
_UNLOGGED = Refusal(status=503, code="journal", message="the prediction log cannot be written",
                    hint="try again; serve.durability: os answers without the log", retry_after=1)  # fmt: skip
_NOT_LOGGED = b',"logged":false}'


class Call:
    """One request: its rows, and how their answers are given. `logged`: whether the journal has
    all of them as safely as its level promises."""

    __slots__ = ("answer", "asks", "exchange", "left", "logged")

    def __init__(self, exchange: Exchange, answer: Callable[["Call"], None]) -> None:
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
        self, config: GatewayConfig, *, clock: Clock, online: Online | None, ledger: Ledger,
        metrics: Metrics, ids: Ids, changed: Callable[[Lane], None],
    ) -> None:  # fmt: skip
        self.config, self.clock, self.online, self.ledger = config, clock, online, ledger
        self.ids, self._changed = ids, changed
        self.plan: Plan | None = None
        self.gate = Gate(config.queue)
        self._loop = asyncio.get_running_loop()
        self._now: float | None = None
        self._twins: list[tuple[Lane, Ask]] = []
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
        plan, body = self.plan, exchange.body
        if plan is None:
            exchange.refuse(_NOBODY)
            return
        if body.startswith(b'{"rows"') and self._several(exchange, plan):
            return
        contract = plan.baseline.reader.contract
        try:
            values = contract.read(body)
        except Invalid as error:
            if not self._several(exchange, plan):
                exchange.refuse(refusal_of(error))
            return
        ask = Ask(_unit(exchange), body, perf_counter())
        ask.values, ask.contract = values, contract
        self._admit(Call(exchange, self._one), plan, [ask])

    def infer(self, exchange: Exchange) -> None:
        """POST /v2/models/{service}/infer: Open Inference Protocol v2."""
        plan, started = self.plan, perf_counter()
        if plan is None:
            exchange.refuse(_NOBODY)
            return
        reader, asks = plan.baseline.reader, []
        try:
            question = tensors.infer(exchange.body, exchange.head.json if exchange.head else -1)
            bodies, encoded = tensors.split_inference(question, reader)
        except Invalid as error:
            exchange.refuse(refusal_of(error))
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
                exchange.refuse(msgspec.structs.replace(refusal, pointer=pointer, violations=()))
                return
            asks.append(ask)
        self._admit(Call(exchange, lambda call: self._inferred(question.request, call)), plan, asks)

    def _several(self, exchange: Exchange, plan: Plan) -> bool:
        """Answer {"rows": [...]}; False when the body is no such thing."""
        contract, started = plan.baseline.reader.contract, perf_counter()
        bodies = None if "rows" in contract.names else wire.many(exchange.body)
        if bodies is None:
            return False
        asks = []
        for i, body in enumerate(bodies):
            ask = Ask(_unit(exchange), body, started)
            try:
                ask.values, ask.contract = contract.read(body), contract
            except Invalid as error:
                exchange.refuse(refusal_of(error, f"/rows/{i}"))
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
            call.exchange.refuse(Refusal(
                status=413, code="rows", message=f"{len(asks)} rows in one request",
                hint=f"send at most {self.config.queue}, or raise serve.max_queue"))  # fmt: skip
            return
        if not self.gate.enter(len(asks)):
            self.shed.n += 1
            call.exchange.refuse(_FULL)
            return
        call.asks, call.left = asks, len(asks)
        for ask in asks:
            ask.call = call
            self._send(ask, plan)

    # -- rows

    def _send(self, ask: Ask, plan: Plan) -> None:
        """Name the row, choose who answers it, and who sees it too."""
        now = self._now
        if now is None:
            now = self._now = self.clock.now()
            self.ids.at(now)
            self._loop.call_soon(self._end_turn)
        reader = plan.baseline.reader
        ask.at, ask.id, ask.epoch = now, self.ids.next(), plan.route.epoch
        if reader.sticky >= 0 and ask.values is not None:
            unit = ask.values[reader.sticky]
            ask.unit = ask.unit if unit is None else str(unit)
        ask.unit = ask.unit or ask.id
        # A matrix that the caller encoded fits the baseline: nobody else can read it.
        fate = ALL if ask.values is None else plan.assign(ask.unit)
        ask.propensity = fate.propensity
        lane = plan.lanes[fate.live]
        if lane is None:
            self._lost(ask, str(plan.arms[fate.live].package))
        else:
            self._offer(ask, lane)
        for place in fate.mirrors:
            self._twin(ask, plan, place)

    def _offer(self, ask: Ask, lane: Lane) -> None:
        """Queue a row at a package; what the package cannot take counts as its failure."""
        trouble = self._prepare(ask, lane)
        now = perf_counter()
        if trouble is None and not lane.breaker.allows(now):
            trouble = "the package fails too often and is not asked for a while"
        patience = self.config.deadline if lane.patient else 0.0
        if trouble is None and lane.down_for(now) > patience:
            trouble = "no replica is running"
        if trouble is not None:
            self.failed(lane, [ask], trouble)
            return
        share = 1.0 if lane.patient else self.config.candidate_share
        ask.limit = ask.started + self.config.deadline * share
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
            try:
                ask.features = reader.join(values, self.online, ask.at)
            except FairleadError:
                self.featureless.n += 1
                ask.features = reader.join(values, None, ask.at)
            ask.data = reader.encode(values, ask.features)
        except Invalid as error:
            ask.refused = error
            return f"cannot take the row: {error}"
        return None

    def _twin(self, ask: Ask, plan: Plan, place: int) -> None:
        """Note that another package is to see the row, once everybody of this turn is served."""
        lane = plan.lanes[place]
        if lane is None:
            self.ledger.dropped(str(plan.arms[place].package))
            return
        twin = Ask(ask.unit, ask.body, ask.started)
        twin.id, twin.at, twin.epoch = ask.id, ask.at, ask.epoch
        twin.values, twin.contract = ask.values, ask.contract
        twin.live, twin.propensity = False, plan.arms[place].mirror
        self._twins.append((lane, twin))

    def _end_turn(self) -> None:
        self._now = None
        if self._twins:
            self._loop.call_soon(self._send_twins)

    def _send_twins(self) -> None:
        twins, self._twins = self._twins, []
        now = perf_counter()
        for lane, twin in twins:
            twin.limit = now + self.config.deadline
            trouble = self._prepare(twin, lane)
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

    def _lost(self, ask: Ask, package: str) -> None:
        reason = "the package cannot be read"
        self.ledger.record(package, [ask], [None], reason)
        self._fall_back(ask, None, reason)

    def _fall_back(self, ask: Ask, lane: Lane | None, reason: str) -> None:
        plan = self.plan
        again = reason != GONE and not ask.fallback and ask.values is not None
        if again and plan is not None and lane is not plan.baseline:
            ask.fallback, ask.alone, ask.refused = True, False, None
            self.fallbacks.n += 1
            self._offer(ask, plan.baseline)
            return
        ask.late = reason == LATE
        self._tell([ask], True)

    def _tell(self, asks: list[Ask], taken: bool) -> None:
        """Settle the live rows once the journal has them."""
        self.ledger.sink.commit(lambda logged: self._told(asks, taken and logged))

    def _told(self, asks: list[Ask], logged: bool) -> None:
        for ask in asks:
            if ask.live:
                ask.call.logged &= logged
                self._settle(ask)

    def _settle(self, ask: Ask) -> None:
        """One row of a request is done with; answer when it was the last."""
        call: Call = ask.call
        call.left -= 1
        if call.left:
            return
        self.gate.leave(len(call.asks))
        if call.gone:
            return
        bare = [a for a in call.asks if a.scores is None]
        if bare and self.config.fallback is None:
            self.unanswered.n += len(bare)
            call.exchange.id = bare[0].id
            call.exchange.refuse(_no_answer(bare[0]))
            return
        if not call.logged:
            self.unlogged.n += len(call.asks)
            if self.config.durability == "fsync":
                call.exchange.refuse(_UNLOGGED)
                return
        self.statics.n += len(bare)
        call.answer(call)
        call.asks = ()  # A row names its request: without this the two would wait for the collector.

    # -- the forms of an answer

    def _spell(self, ask: Ask) -> bytes:
        if ask.reader is not None and ask.scores is not None:
            return ask.reader.spell(ask.id, ask.scores, ask.fallback)
        plan = self.plan
        regression = plan is not None and plan.baseline.reader.spec.task == "regression"
        return msgspec.json.encode({"id": ask.id, "package": STATIC, "fallback": True,
                                    "value" if regression else "label": self.config.fallback})  # fmt: skip

    def _one(self, call: Call) -> None:
        body = self._spell(call.asks[0])
        call.exchange.ok(body if call.logged else body[:-1] + _NOT_LOGGED)

    def _many(self, call: Call) -> None:
        body = b'{"predictions":[%b]}' % b",".join(map(self._spell, call.asks))
        call.exchange.ok(body if call.logged else body[:-1] + _NOT_LOGGED)

    def _inferred(self, request: tensors.Inference, call: Call) -> None:
        rows = [tensors.Row(a.id, a.reader.name if a.reader else STATIC, a.reader, a.scores,
                            a.fallback or a.reader is None) for a in call.asks]  # fmt: skip
        text, blob = tensors.spell_inference(request, self.config.service, rows, call.logged)
        if blob is None:
            call.exchange.ok(text)
        else:
            call.exchange.answer(200, text + blob, b"application/octet-stream",
                                 b"inference-header-content-length: %d\r\n" % len(text))  # fmt: skip


def _unit(exchange: Exchange) -> str:
    return exchange.head.unit if exchange.head is not None else ""


def _no_answer(ask: Ask) -> Refusal:
    if ask.refused is not None:
        return msgspec.structs.replace(refusal_of(ask.refused), code="unseen")
    if ask.late:
        return Refusal(status=503, code="deadline", message="no answer in time", retry_after=1,
                       hint="try again, with fewer rows at once if there were many")  # fmt: skip
    return Refusal(status=503, code="unavailable", message="the package that should answer failed",
                   hint="try again; the journal has the reason under this id", retry_after=1)  # fmt: skip
