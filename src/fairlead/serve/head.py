"""Heads: what of a request's head matters, read once it is whole, or why it is refused."""

from typing import Any

from msgspec import Struct

from fairlead.serve.endpoint import Callers, Endpoint, Table
from fairlead.serve.guard import Bucket
from fairlead.serve.refusal import Refusal

__all__ = ["Head", "Line", "large_body", "read_head"]


class Line(Struct, frozen=True, gc=False):
    """What the parser found: the request line, the headers in order with names in lower case, and
    whether the connection may go on."""

    method: bytes
    url: bytes
    fields: list[tuple[bytes, bytes]]
    version: str
    keep: bool


class Head(Struct, frozen=True, kw_only=True, gc=False):
    """What matters of a request's head. `length` is -1 when the body is chunked, `json` the bytes
    of JSON before binary tensors, -1 when there are none; `token`: what the caller showed, kept
    only where heads are not remembered; `bucket`: what that token may still ask (None: all). `old`: HTTP/1.0, which knows no chunks."""

    endpoint: Endpoint[Any]
    length: int
    keep: bool
    unit: str = ""
    trace: bytes = b""
    expects: bool = False
    json: int = -1
    query: bytes = b""
    token: bytes = b""
    old: bool = False
    bucket: Bucket | None = None


def read_head(line: Line, table: Table[Any], callers: Callers, *, remembered: bool) -> Head | Refusal:
    """Which door is meant, and whether this caller may use it. `remembered`: the head may be answered
    for again, so that no token is kept in it."""
    fields = dict(line.fields)
    hosts = sum(1 for name, _ in line.fields if name == b"host")
    if hosts > 1 or (not hosts and line.version != "1.0"):
        return Refusal(status=400, code="host", message=f"{hosts} Host headers",
                       hint="send exactly one")  # fmt: skip
    if b"upgrade" in fields and b"upgrade" in fields.get(b"connection", b"").lower():
        return Refusal(status=400, code="upgrade", message="there is no other protocol to upgrade to",
                       hint="tell the client not to upgrade (Java: HttpClient.Version.HTTP_1_1)")  # fmt: skip
    endpoint = table.find(line.method.decode("latin-1"), line.url.partition(b"?")[0].decode("latin-1"))
    if isinstance(endpoint, Refusal):
        return endpoint
    shown = fields.get(b"authorization", b"")
    refusal = callers.refuse(endpoint.access, fields.get(b"host", b"").decode("latin-1"),
                             fields.get(b"origin", b"").decode("latin-1"), shown)  # fmt: skip
    if refusal is not None:
        return refusal
    expects = fields.get(b"expect", b"").lower()
    if expects not in (b"", b"100-continue"):
        return Refusal(status=417, code="expect", message="only 100-continue can be expected",
                       hint="leave the Expect header out")  # fmt: skip
    text = fields.get(b"inference-header-content-length", b"-1")
    if text != b"-1" and not (text.isdigit() and len(text) < 10):
        return Refusal(status=400, code="http", message="Inference-Header-Content-Length is no number",
                       hint="the bytes of JSON before the tensors")  # fmt: skip
    length = -1 if b"transfer-encoding" in fields else int(fields.get(b"content-length", b"0"))
    if length > endpoint.max_body:
        return large_body(endpoint)
    return Head(endpoint=endpoint, length=length, keep=line.keep, trace=fields.get(b"traceparent", b""),
                unit=fields.get(b"x-unit", b"").decode("utf-8", "replace"), expects=bool(expects), json=int(text),
                query=line.url.partition(b"?")[2], old=line.version == "1.0",
                token=b"" if remembered else shown.removeprefix(b"Bearer "),
                bucket=callers.bucket(endpoint.access, shown))  # fmt: skip


def large_body(endpoint: Endpoint[Any]) -> Refusal:
    """The refusal of a body over the limit of its door."""
    return Refusal(status=413, code="body", message=f"the body is over {endpoint.max_body} bytes",
                   hint="send fewer rows at once, or raise serve.max_body_kb")  # fmt: skip
