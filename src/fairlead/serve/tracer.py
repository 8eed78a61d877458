"""Traces: spans of sampled requests, sent to an OpenTelemetry receiver by a thread of their own.

OTLP over HTTP as JSON (github.com/open-telemetry/opentelemetry-proto, "JSON Protobuf Encoding"):
what every collector takes, and small enough to be spelled here.
"""

import http.client
import threading
from collections.abc import Mapping, Sequence
from queue import Full, Queue
from time import perf_counter
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from fairlead import __version__
from fairlead.core.trace import Parent, parent_of, span_of, trace_of
from fairlead.serve.batch import Ask
from fairlead.serve.http import Head
from fairlead.serve.metrics import Counter
from fairlead.serve.refusal import Refusal

__all__ = ["Asked", "Share", "Tracer"]

WAITING = 4096
"""Spans that may wait for the receiver; what comes after that is dropped, and counted."""
BATCH, PAUSE = 512, 0.5
"""Spans of one request to the receiver, and the seconds between two of them."""
PATIENCE = 5.0
"""Seconds the receiver may take."""
SERVER, CLIENT, ERROR = 2, 3, 2
"""Kinds of spans, and the status of one that failed."""

Span = dict[str, Any]


class Asked(Protocol):
    """A request that was answered or refused."""

    head: Head | None
    id: str

    @property
    def size(self) -> int:
        """Bytes of the answer."""


class Share:
    """Says yes to a share of the questions, evenly and without a die."""

    def __init__(self, share: float) -> None:
        self.share, self._credit = share, 0.0

    def yes(self) -> bool:
        self._credit += self.share
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True


class Tracer:
    """`share`: of the requests whose caller does not say whether to record them.

    Spans are named by the prediction (`core.trace`), so a trace is found from an id and back.
    """

    def __init__(self, url: str, service: str, share: float, dropped: Counter) -> None:
        self._url, self._service, self._share, self._dropped = url, service, Share(share), dropped
        self._queue: Queue[Span] = Queue(WAITING)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._export, name="traces", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send what waits, unless the receiver hangs."""
        self._over.set()
        self._thread.join(timeout=1.0)

    def answered(self, asked: Asked, asks: Sequence[Ask], arm: str) -> None:
        """Gateway and replica of a prediction, when it is recorded."""
        parent = parent_of(asked.head.trace) if asked.head and asked.head.trace else None
        if not self._wanted(parent):
            return
        first, now = asks[0], perf_counter()
        package = first.reader.name if first.reader else arm
        tags = {"fairlead.prediction": first.id, "fairlead.package": package, "fairlead.arm": arm,
                "fairlead.rows": len(asks), "http.response.status_code": 200}  # fmt: skip
        path = asked.head.endpoint.path if asked.head else ""
        self._put(_span(first.id, "gateway", parent, first.at, now - first.started, tags)
                  | {"name": f"POST {path}", "kind": SERVER})  # fmt: skip
        if first.sent:
            before = first.sent - first.started
            whole = Parent(parent.trace if parent else trace_of(first.id), span_of(first.id, "gateway"), 1)
            self._put(_span(first.id, "replica", whole, first.at + before, now - first.sent, tags)
                      | {"name": "replica", "kind": CLIENT})  # fmt: skip

    def refused(self, asked: Asked, refusal: Refusal, at: float) -> None:
        """An error body, when the caller wants it recorded; `at`: UTC seconds."""
        parent = parent_of(asked.head.trace) if asked.head else None
        if parent is not None and parent.sampled:
            tags = {"fairlead.prediction": asked.id, "http.response.status_code": refusal.status,
                    "error.type": refusal.code}  # fmt: skip
            status = {"code": ERROR, "message": refusal.message}
            self._put(_span(asked.id, "gateway", parent, at, 0.0, tags)
                      | {"name": "refused", "kind": SERVER, "status": status})  # fmt: skip

    def _wanted(self, parent: Parent | None) -> bool:
        return parent.sampled if parent is not None else self._share.yes()

    def _put(self, span: Span) -> None:
        try:
            self._queue.put_nowait(span)
        except Full:
            self._dropped.n += 1

    def _export(self) -> None:
        while not self._over.wait(PAUSE * (self._queue.qsize() < BATCH)) or not self._queue.empty():
            spans = [self._queue.get() for _ in range(min(BATCH, self._queue.qsize()))]
            try:
                if spans:
                    self._post(msgspec.json.encode(self._request(spans)))
            except (OSError, http.client.HTTPException):
                self._dropped.n += len(spans)

    def _post(self, body: bytes) -> None:
        """Raises OSError or HTTPException when the receiver did not take it."""
        to = urlsplit(self._url)
        kind = http.client.HTTPSConnection if to.scheme == "https" else http.client.HTTPConnection
        line = kind(to.netloc, timeout=PATIENCE)
        try:
            line.request("POST", to.path or "/v1/traces", body, {"content-type": "application/json"})
            status = line.getresponse().status
            if status >= 300:
                raise OSError(f"the receiver of traces answers {status}")
        finally:
            line.close()

    def _request(self, spans: Sequence[Span]) -> dict[str, Any]:
        resource = {"attributes": _attributes({"service.name": self._service})}
        scope = {"scope": {"name": "fairlead", "version": __version__}, "spans": spans}
        return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}


def _span(
    prediction: str, part: str, parent: Parent | None, at: float, seconds: float, tags: Mapping[str, object]
) -> Span:
    """`at`: UTC seconds."""
    start = int(at * 1e9)
    return {
        "traceId": parent.trace if parent else trace_of(prediction),
        "spanId": span_of(prediction, part), "parentSpanId": parent.span if parent else "",
        "startTimeUnixNano": str(start), "endTimeUnixNano": str(start + int(seconds * 1e9)),
        "attributes": _attributes(tags),
    }  # fmt: skip


def _attributes(tags: Mapping[str, object]) -> list[dict[str, Any]]:
    return [{"key": k, "value": {"intValue": str(v)} if isinstance(v, int) else {"stringValue": v}}
            for k, v in tags.items()]  # fmt: skip
