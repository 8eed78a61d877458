"""Chat: OpenAI-compatible questions, relayed to the provider of the package whose turn it is."""

import asyncio
import traceback
from collections.abc import Callable
from time import perf_counter
from typing import Any

import msgspec

from fairlead.core.chat import NUMBERS, PATHS, Form, Heard, addressed, question, unit_of
from fairlead.core.trace import parent_of
from fairlead.errors import Invalid, Unavailable
from fairlead.serve.batch import Ask
from fairlead.serve.dispatch import FULL, NOBODY, UNLOGGED, Dispatch
from fairlead.serve.exchange import Exchange, Stream
from fairlead.serve.metrics import Histogram, Metrics
from fairlead.serve.plan import Plan
from fairlead.serve.provider import MOST, Failure, ProviderLane, pieces, refused
from fairlead.serve.refusal import Refusal, refusal_of
from fairlead.serve.upstream import Answer

__all__ = ["Relay"]

SSE, AT_ONCE = b"text/event-stream; charset=utf-8", b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"
"""The kind of a stream, and what keeps proxies from holding it back."""
LATE = Refusal(status=503, code="deadline", message="the provider did not answer in time",
               hint="try again", retry_after=1)  # fmt: skip
FAILED = Refusal(status=503, code="unavailable", message="the package that should answer failed",
                 hint="try again; the journal has the reason under this id", retry_after=1)  # fmt: skip
UNREAD = Failure("the caller reads too slowly", LATE)
INTERNAL = Refusal(status=500, code="internal", message="something went wrong here",
                   hint="the log has the details under this id")  # fmt: skip
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Call:
    """One question. `exchange` is None for a shadow's, whose answer nobody sees. `told`: the caller
    asked for the usage at the end of a stream; `out`: what has begun to be answered; `sending`: it is
    the caller who is waited for; `blamed`: it was refused as the caller's to change; `task`: who answers."""

    __slots__ = ("ask", "asked", "blamed", "exchange", "form", "heard", "out", "sending", "streams", "task",
                 "told")  # fmt: skip

    def __init__(self, exchange: Exchange | None, asked: dict[str, Any], form: Form, ask: Ask) -> None:
        options = asked.get("stream_options")
        self.exchange, self.asked, self.form, self.ask = exchange, asked, form, ask
        self.streams = exchange is not None and asked.get("stream") is True
        self.told = isinstance(options, dict) and options.get("include_usage") is True
        self.heard = Heard()
        self.out: Stream | None = None
        self.sending = self.blamed = False
        self.task: asyncio.Task[None] | None = None

    def signed(self, piece: dict[str, Any], package: str, *, first: bool = True) -> dict[str, Any]:
        """A piece of the answer under the id that feedback names."""
        marks = {"package": package} | ({"fallback": True} if self.ask.fallback else {})
        return {**piece, "id": self.ask.id, **(marks if first else {})}


class Relay:
    """Sends questions to providers and answers to callers, and writes both down."""

    def __init__(self, dispatch: Dispatch, metrics: Metrics) -> None:
        self.dispatch, self._metrics = dispatch, metrics
        self._tasks: set[asyncio.Task[None]] = set()
        self._shadows = 0
        self._closing = False
        self._spent: dict[str, list[float]] = {}
        self._waits: dict[str, Histogram] = {}

    # -- the doors

    def chat(self, exchange: Exchange) -> None:
        """POST /v1/chat/completions."""
        self._take(exchange, "chat")

    def complete(self, exchange: Exchange) -> None:
        """POST /v1/completions."""
        self._take(exchange, "text")

    def models(self, exchange: Exchange) -> None:
        """GET /v1/models: the service is the one model there is."""
        exchange.ok(_encode({"object": "list", "data": [self._model()]}))

    def model(self, exchange: Exchange) -> None:
        """GET /v1/models/{service}."""
        exchange.ok(_encode(self._model()))

    async def close(self) -> None:
        """End what is still being answered; streams are told."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _model(self) -> dict[str, Any]:
        return {"id": self.dispatch.config.service, "object": "model", "created": 0, "owned_by": "fairlead"}

    # -- a question

    def _take(self, exchange: Exchange, form: Form) -> None:
        dispatch, plan, started = self.dispatch, self.dispatch.plan, perf_counter()
        if plan is None:
            dispatch.deny(exchange, NOBODY, started)
            return
        try:
            asked = question(exchange.body, form)
        except Invalid as error:
            dispatch.deny(exchange, refusal_of(error), started)
            return
        if not dispatch.gate.enter(1):
            dispatch.shed.n += 1
            dispatch.deny(exchange, FULL, started)
            return
        ask = self._named(exchange, asked, plan)
        fate = plan.assign(ask.unit)
        ask.propensity = fate.propensity
        call = Call(exchange, asked, form, ask)
        call.task = self._start(self._serve(call, plan, fate.live))
        exchange.forsaken = call.task.cancel
        for place in fate.mirrors:
            self._mirror(call, plan, place)

    def _named(self, exchange: Exchange, asked: dict[str, Any], plan: Plan) -> Ask:
        dispatch, head = self.dispatch, exchange.head
        ask = Ask("", exchange.body, perf_counter())
        ask.at, ask.epoch = dispatch.clock.now(), plan.route.epoch
        dispatch.ids.at(ask.at)
        ask.id = exchange.id = dispatch.ids.next()
        ask.unit = (head.unit if head else "") or unit_of(asked) or ask.id
        if head is not None and head.trace and (parent := parent_of(head.trace)):
            ask.trace = parent.trace
        return ask

    def _start(self, work: Any) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _serve(self, call: Call, plan: Plan, live: int) -> None:
        try:
            await self._answer(call, plan, live)
        except Exception:  # noqa: BLE001 - the border of a request: a bad one must not end the gateway
            traceback.print_exc()
            self._end(call, INTERNAL)
        finally:
            self.dispatch.gate.leave(1)

    async def _answer(self, call: Call, plan: Plan, live: int) -> None:
        """The package whose turn it is, else the baseline, else an error that says whose fault it is."""
        lane, name, ask = plan.lanes[live], str(plan.arms[live].package), call.ask
        failed = await self._try(call, lane)
        if failed is None:
            return
        if lane is plan.baseline:
            self._fail(call, name, failed)
            return
        if not failed.asked:
            self._note(ask, name, failed)
        ask.fallback = True
        self.dispatch.fallbacks.n += 1
        again = await self._try(call, plan.baseline)
        if again is not None:
            self._fail(call, plan.baseline.reader.name, again)
        elif failed.asked:
            # The baseline took the question, so it was the package that could not.
            self._note(_twin(ask), name, failed)

    def _mirror(self, seen: Call, plan: Plan, place: int) -> None:
        """Ask another package as well; nobody waits for its answer."""
        lane, name = plan.lanes[place], str(plan.arms[place].package)
        if lane is None or self._shadows >= self.dispatch.config.shadow_queue:
            self.dispatch.ledger.dropped(name)
            return
        twin = _twin(seen.ask)
        twin.live, twin.propensity = False, plan.arms[place].mirror
        self._shadows += 1
        self._start(self._shadow(Call(None, seen.asked, seen.form, twin), seen, lane, name))

    async def _shadow(self, call: Call, seen: Call, lane: object, name: str) -> None:
        """Ask for nobody. A question that was refused to the caller as well is no failure of the package."""
        try:
            failed = await self._try(call, lane)
            if failed is not None and failed.asked and seen.task is not None:
                await asyncio.wait([seen.task])
            if failed is not None and not (failed.asked and seen.blamed):
                self._note(call.ask, name, failed)
        finally:
            self._shadows -= 1

    # -- one package

    async def _try(self, call: Call, lane: object) -> Failure | None:
        """Ask a package; why it gave no answer, or None when the caller has one, or the beginning of
        one and the reason why it broke off."""
        if not isinstance(lane, ProviderLane):
            return Failure("the package cannot be read", FAILED)
        trouble = lane.trouble(perf_counter(), 0.0)
        if trouble is not None:
            return Failure(trouble, FAILED)
        lane.calls += 1
        call.heard = Heard()
        try:
            failed = await self._relay(call, lane)
        except asyncio.CancelledError:
            self._gone(call, lane)
            raise
        finally:
            lane.calls -= 1
        if failed is UNREAD:
            self._gone(call, lane)
            return None
        lane.judge(failed is not None and not failed.asked)
        if failed is not None and call.out is not None:
            self._broken(call, lane.reader.name, failed)
            return None
        return failed

    async def _relay(self, call: Call, lane: ProviderLane) -> Failure | None:
        provider, key = lane.provider, ""
        patience = provider.first_token if call.streams else provider.timeout
        try:
            async with asyncio.timeout(patience) as clock:
                key = await lane.key()
                body = addressed(provider, call.asked, call.form, stream=call.streams)
                async with lane.upstream.post(PATHS[call.form], body, key) as answer:
                    if answer.status != 200:
                        return await refused(answer, key)
                    if call.streams:
                        await self._pieces(call, lane, answer, clock)
                    else:
                        await self._whole(call, lane, answer)
        except TimeoutError:
            return UNREAD if call.sending else Failure("no answer in time", LATE)
        except (Invalid, Unavailable, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            text = str(error)[:300]
            return Failure(text.replace(key, "***") if key else text, FAILED)
        return None

    async def _whole(self, call: Call, lane: ProviderLane, answer: Answer) -> None:
        piece = _decode(await answer.whole(MOST))
        call.heard.take(piece)
        self._settle(call, lane, perf_counter() - call.ask.started, lambda logged: self._tell(call, lane, piece, logged))

    async def _pieces(self, call: Call, lane: ProviderLane, answer: Answer, clock: asyncio.Timeout) -> None:
        """Relay a stream, event by event, each once the caller has taken the one before. Nothing is
        sent before the first token: until then another package can still answer."""
        held, first = b"", 0.0
        async for piece, brought in pieces(answer, call.heard):
            if brought and not first:
                first = perf_counter() - call.ask.started
                clock.reschedule((clock.when() or 0.0) - lane.provider.first_token + lane.provider.timeout)
            if piece.get("choices") or call.told:
                fresh = call.out is None and not held
                held += b"data: %b\n\n" % _encode(call.signed(piece, lane.reader.name, first=fresh))
            if held and (first or call.heard.finish):
                await self._send(call, held)
                held = b""
        if call.out is None:
            raise Unavailable("the stream said nothing")
        self._settle(call, lane, first, lambda logged: self._close(call, logged))

    async def _send(self, call: Call, data: bytes) -> None:
        assert call.exchange is not None
        if call.out is None:
            call.out = call.exchange.begin(SSE, AT_ONCE)
        call.sending = True
        await call.out.send(data)
        call.sending = False

    # -- what is written down, and told

    def _settle(self, call: Call, lane: ProviderLane, first: float, then: Callable[[bool], None]) -> None:
        """The answer is whole: write it down, then tell the caller."""
        ask, name = call.ask, lane.reader.name
        numbers = call.heard.numbers(lane.provider.price, first)
        ask.scores, ask.reader, ask.said = numbers, lane.reader, call.heard.said()
        self._count(name, numbers)
        taken = self.dispatch.ledger.record(name, [ask], [numbers], "")
        if call.exchange is not None:
            self.dispatch.ledger.sink.commit(lambda logged: then(taken and logged))

    def _tell(self, call: Call, lane: ProviderLane, piece: dict[str, Any], logged: bool) -> None:
        exchange, dispatch = call.exchange, self.dispatch
        if exchange is None or exchange.gone:
            return
        dispatch.unlogged.n += not logged
        if not logged and dispatch.config.durability == "fsync":
            exchange.refuse(UNLOGGED)
            return
        exchange.ok(_encode(call.signed(piece, lane.reader.name) | ({} if logged else {"logged": False})))
        self._answered(call)

    def _close(self, call: Call, logged: bool) -> None:
        if call.out is None or call.exchange is None or call.exchange.gone:
            return
        self.dispatch.unlogged.n += not logged
        if not logged and self.dispatch.config.durability == "fsync":
            call.out.end(_event(UNLOGGED, call.ask.id))
            return
        call.out.end(b"data: [DONE]\n\n")
        self._answered(call)

    def _answered(self, call: Call) -> None:
        plan = self.dispatch.plan
        if call.exchange is not None:
            self.dispatch.access.answered(call.exchange, [call.ask], plan.baseline.reader if plan else None)

    def _note(self, ask: Ask, name: str, failed: Failure) -> None:
        """A package failed and said nothing."""
        ask.said = None
        self.dispatch.ledger.record(name, [ask], [None], failed.reason)

    def _fail(self, call: Call, name: str, failed: Failure) -> None:
        """Nobody answers. A question that the baseline's provider refuses is the caller's to change,
        and no failure of a package."""
        if failed.asked and call.exchange is not None:
            call.blamed = True
            self.dispatch.deny(call.exchange, failed.refusal, call.ask.started)
            return
        self._note(call.ask, name, failed)
        self.dispatch.unanswered.n += 1
        self.dispatch.ledger.sink.commit(lambda _: self._end(call, failed.refusal))

    def _broken(self, call: Call, name: str, failed: Failure) -> None:
        """An answer broke off when its beginning was told already."""
        call.ask.said = call.heard.said() | {"finish_reason": "error"}
        self.dispatch.ledger.record(name, [call.ask], [None], failed.reason)
        self.dispatch.ledger.sink.commit(lambda _: self._end(call, failed.refusal))

    def _gone(self, call: Call, lane: ProviderLane) -> None:
        """The caller has gone, or does not read, or the gateway is stopped: what came so far is written down."""
        call.ask.said = call.heard.said() | {"finish_reason": "stopped" if self._closing else "gone"}
        numbers = call.heard.numbers(lane.provider.price, float("nan"))
        self.dispatch.ledger.record(lane.reader.name, [call.ask], [numbers], "")
        self._end(call, FAILED)

    def _end(self, call: Call, refusal: Refusal) -> None:
        """Refuse, in the form that fits what was sent."""
        exchange = call.exchange
        if exchange is None or exchange.gone:
            return
        if call.out is None:
            exchange.refuse(refusal)
        else:
            call.out.end(_event(refusal, call.ask.id))

    def _count(self, name: str, numbers: list[float]) -> None:
        """Tokens and money by package; what a provider does not say counts as nothing."""
        counted = self._spent.get(name)
        if counted is None:
            counted = self._spent[name] = [0.0] * len(NUMBERS)
            for i, kind in enumerate(("prompt", "completion"), 1):
                self._metrics.gauge("fairlead_tokens_total", "Tokens that providers counted.",
                                    lambda i=i, c=counted: c[i], package=name, kind=kind)  # type: ignore[misc]
            self._metrics.gauge("fairlead_spent_total", "What providers ask for their answers, by the packages' prices.",
                                lambda c=counted: c[0], package=name)  # type: ignore[misc]
            self._waits[name] = self._metrics.histogram(
                "fairlead_first_token_seconds", "From the end of a request to the first token.", package=name)  # fmt: skip
        for i, value in enumerate(numbers):
            counted[i] += value if value == value else 0.0
        self._waits[name].observe([numbers[-1]])


def _twin(ask: Ask) -> Ask:
    """The same question to another package."""
    twin = Ask(ask.unit, ask.body, ask.started)
    twin.id, twin.at, twin.epoch, twin.trace = ask.id, ask.at, ask.epoch, ask.trace
    twin.propensity = ask.propensity
    return twin


def _event(refusal: Refusal, request_id: str) -> bytes:
    """An error as an event of a stream."""
    return b"data: %b\n\n" % refusal.body(request_id)

