"""gRPC: the doors of Open Inference Protocol v2 for callers that speak it, with the limits of the others."""

import asyncio
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from time import monotonic
from typing import NoReturn, Protocol

from fairlead import __version__
from fairlead.core.trace import parent_of, span_of
from fairlead.errors import FairleadError, Missing, Unavailable
from fairlead.serve import oip, tensors
from fairlead.serve.config import GatewayConfig
from fairlead.serve.dispatch import Call
from fairlead.serve.endpoint import Access, Endpoint, Table
from fairlead.serve.http import Head, Site, large_body
from fairlead.serve.refusal import Refusal, refusal_of
from fairlead.serve.service import NOT_READY, Service

__all__ = ["Server", "reserve"]

Metadata = tuple[tuple[str, str], ...]

SLACK = 65_536
"""Bytes by which a message may be over the limit and still be told so in our words, not gRPC's."""
CODES: Mapping[int, str] = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    409: "FAILED_PRECONDITION", 413: "RESOURCE_EXHAUSTED", 422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE",
}  # fmt: skip
"""Status codes by the status that a refusal has over HTTP."""
_INTERNAL = Refusal(status=500, code="internal", message="something went wrong here",
                    hint="the log has the details under this id")  # fmt: skip


class Context(Protocol):
    """What gRPC knows of a call."""

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]] | None: ...
    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None: ...
    async def abort(self, code: object, details: str, trailing_metadata: Metadata) -> NoReturn: ...


class Exchange:
    """One call and, once, its answer: to `Dispatch` what a request over HTTP is."""

    def __init__(self, head: Head, body: bytes) -> None:
        self.head: Head | None = head
        self.body, self.id, self.gone, self.size = body, "", False, 0
        self.done: asyncio.Future[bytes | Refusal] = asyncio.get_running_loop().create_future()

    def ok(self, body: bytes) -> None:
        """`body`: a serialised message."""
        self.size = len(body)
        self._settle(body)

    def answer(self, status: int, body: bytes, kind: bytes, headers: bytes) -> None:
        self._settle(body)

    def refuse(self, refusal: Refusal) -> None:
        self._settle(refusal)

    def _settle(self, outcome: bytes | Refusal) -> None:
        if not self.done.done():
            self.done.set_result(outcome)


class Server:
    """All doors of one gateway that speak gRPC. The gateways share the port (SO_REUSEPORT)."""

    def __init__(self, service: Service, site: Site) -> None:
        """Raises Missing without the extra."""
        _require()
        import grpc

        self._grpc, self.service, self.site = grpc, service, site
        self.dispatch, self.config = service.dispatch, service.config
        self._server = grpc.aio.server(options=_options(self.config))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(oip.SERVICE, {
            e.path.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(partial(self._turn, e))
            for e in self._doors().all()
        }),))  # fmt: skip

    def _doors(self) -> Table[Exchange]:
        small, large, long = 4096, self.config.max_body, self.config.deadline
        doors: list[tuple[str, Access, int, float, Callable[[Exchange], None]]] = [
            ("ServerLive", "anyone", 0, 1.0, self.live),
            ("ServerReady", "anyone", 0, 1.0, self.server_ready),
            ("ServerMetadata", "anyone", 0, 1.0, self.server),
            ("ModelReady", "anyone", small, 1.0, self.ready),
            ("ModelMetadata", "caller", small, 1.0, self.model),
            ("ModelInfer", "caller", large, long, self.infer),
        ]
        return Table(
            Endpoint(method="POST", path=f"/{oip.SERVICE}/{name}", access=a, max_body=b, deadline=d,
                     handler=h) for name, a, b, d, h in doors
        )  # fmt: skip

    async def start(self) -> None:
        """Listen on the port, which `reserve` has proven to be free."""
        self._server.add_insecure_port(f"{_bracketed(self.config.host)}:{self.config.grpc_port}")
        await self._server.start()

    async def stop(self, seconds: float) -> None:
        """Answer what is inside, refuse what comes (callers try elsewhere)."""
        await self._server.stop(seconds)

    async def _turn(self, endpoint: Endpoint[Exchange], body: bytes, context: Context) -> bytes:
        """One call, from its guard to its answer or its status."""
        said = {k: v for k, v in context.invocation_metadata() or () if isinstance(v, str)}
        exchange = Exchange(Head(endpoint=endpoint, length=len(body), keep=True, unit=said.get("x-unit", ""),
                                 trace=said.get("traceparent", "").encode()), body)  # fmt: skip
        callers, shown = self.site.callers, said.get("authorization", "").encode()
        # No web page can speak HTTP/2 without TLS, so Host and Origin need no look here.
        refusal = callers.refuse(endpoint.access, "localhost", "", shown)
        if refusal is None and (bucket := callers.bucket(endpoint.access, shown)) is not None:
            refusal = bucket.refuse(monotonic())
        if refusal is not None:
            exchange.refuse(refusal)
        elif len(body) > endpoint.max_body:
            exchange.refuse(large_body(endpoint))
        else:
            self._act(endpoint, exchange)
        try:
            outcome = await exchange.done
        finally:
            exchange.gone = True
        if isinstance(outcome, bytes):
            if (head := exchange.head) and (parent := parent_of(head.trace)):
                line = parent.line(span_of(exchange.id or self.site.new_id(), "gateway"))
                context.set_trailing_metadata((("traceparent", line.decode()),))
            return outcome
        await self._abort(outcome, exchange, context)

    def _act(self, endpoint: Endpoint[Exchange], exchange: Exchange) -> None:
        try:
            endpoint.handler(exchange)
        except FairleadError as error:
            exchange.refuse(refusal_of(error))
        except Exception:  # noqa: BLE001 - the border of a request: a bad one must not end the gateway
            traceback.print_exc(file=sys.stderr)
            exchange.refuse(_INTERNAL)

    async def _abort(self, refusal: Refusal, exchange: Exchange, context: Context) -> NoReturn:
        """The status that fits, with the body that HTTP would have as its details."""
        status = "DEADLINE_EXCEEDED" if refusal.code == "deadline" else CODES[refusal.status]
        wait: Metadata = (("grpc-retry-pushback-ms", str(refusal.retry_after * 1000)),) if refusal.retry_after else ()
        exchange.id = exchange.id or self.site.new_id()
        body = refusal.body(exchange.id, flat=True)
        exchange.size = len(body)
        self.dispatch.access.refused(exchange, refusal)
        await context.abort(getattr(self._grpc.StatusCode, status), body.decode(), wait)

    # -- the doors

    def live(self, exchange: Exchange) -> None:
        """ServerLive: the loop turns, or this would not be answered."""
        _say(exchange, "ServerLiveResponse", live=True)

    def server_ready(self, exchange: Exchange) -> None:
        """ServerReady: somebody would answer a prediction."""
        _say(exchange, "ServerReadyResponse", ready=self.service.switch.ready)

    def server(self, exchange: Exchange) -> None:
        """ServerMetadata."""
        _say(exchange, "ServerMetadataResponse", name="fairlead", version=__version__)

    def ready(self, exchange: Exchange) -> None:
        """ModelReady."""
        self._named(oip.read("ModelReadyRequest", exchange.body).name)
        _say(exchange, "ModelReadyResponse", ready=self.service.switch.ready)

    def model(self, exchange: Exchange) -> None:
        """ModelMetadata: what the answering package reads and says."""
        self._named(oip.read("ModelMetadataRequest", exchange.body).name)
        plan = self.dispatch.plan
        if plan is None:
            exchange.refuse(NOT_READY)
        else:
            _say(exchange, "ModelMetadataResponse",
                 **tensors.describe(self.config.service, plan.baseline.reader))  # fmt: skip

    def infer(self, exchange: Exchange) -> None:
        """ModelInfer."""
        self.dispatch.question(exchange, lambda: self._question(exchange.body), self._inferred)

    def _question(self, body: bytes) -> tensors.Question:
        asked = oip.read("ModelInferRequest", body)
        self._named(asked.model_name)
        return oip.question(asked)

    def _inferred(self, call: Call, request: tensors.Inference) -> None:
        call.exchange.ok(oip.response(request, self.dispatch.respond(call, request)))

    def _named(self, name: str) -> None:
        """Raises Missing when it is the name of another model."""
        if name != self.config.service:
            raise Missing(f"no model {name!r:.60}", hint=f"this service is {self.config.service}")


def _say(exchange: Exchange, message: str, /, **fields: object) -> None:
    exchange.ok(bytes(oip.message(message)(**fields).SerializeToString()))


def _options(config: GatewayConfig) -> list[tuple[str, int]]:
    """The limits that HTTP keeps, in gRPC's words. Compressed messages are refused: they could
    unfold to any size."""
    limits = config.limits
    return [
        ("grpc.max_receive_message_length", config.max_body + SLACK),
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.max_metadata_size", limits.header_bytes),
        ("grpc.absolute_max_metadata_size", limits.header_bytes),
        ("grpc.max_concurrent_streams", limits.pipeline),
        ("grpc.max_connection_idle_ms", int(limits.idle_seconds * 1000)),
        ("grpc.server_handshake_timeout_ms", int(limits.head_seconds * 1000)),
        ("grpc.so_reuseport", 1),
    ]


def _require() -> None:
    if find_spec("grpc") is None:
        raise Missing("grpcio is not installed", hint='pip install "fairlead[grpc]"')
    oip.message("ModelInferRequest")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def reserve(config: GatewayConfig) -> socket.socket | None:
    """Hold the port without listening, so that gateways may come and go on it and nobody else may.

    None when gRPC is off. Raises Missing without the extra, Unavailable when the port is taken.
    """
    if not config.grpc_port:
        return None
    _require()
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    held = socket.socket(family)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        held.bind((config.host, config.grpc_port))
    except OSError as error:
        held.close()
        raise Unavailable(f"cannot listen on {config.host}:{config.grpc_port}: {error.strerror}",
                          hint="stop what uses the port, or set serve.grpc_port") from error  # fmt: skip
    return held
