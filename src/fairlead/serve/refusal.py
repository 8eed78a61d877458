"""Refusals: the one place where an error becomes an HTTP status and a body that teaches."""

import msgspec
from msgspec import Struct

from fairlead.core.contract import Malformed, Refused, Violation
from fairlead.errors import (
    Conflict,
    Corrupt,
    FairleadError,
    Forbidden,
    Invalid,
    Missing,
    Unavailable,
)

__all__ = ["REASONS", "Refusal", "refusal_of"]

REASONS = {
    200: b"OK", 202: b"Accepted", 400: b"Bad Request", 401: b"Unauthorized", 403: b"Forbidden",
    404: b"Not Found", 405: b"Method Not Allowed", 408: b"Request Timeout", 409: b"Conflict",
    413: b"Content Too Large", 417: b"Expectation Failed", 422: b"Unprocessable Content",
    429: b"Too Many Requests", 431: b"Request Header Fields Too Large",
    500: b"Internal Server Error", 503: b"Service Unavailable",
}  # fmt: skip

_KINDS: tuple[tuple[type[FairleadError], int, str], ...] = (
    (Malformed, 400, "malformed"),
    (Refused, 422, "contract"),
    (Invalid, 422, "invalid"),
    (Missing, 404, "missing"),
    (Forbidden, 403, "forbidden"),
    (Conflict, 409, "conflict"),
    (Unavailable, 503, "unavailable"),
    (Corrupt, 500, "corrupt"),
)


class Refusal(Struct, frozen=True, kw_only=True):
    """Why a request got no answer. `retry_after`: seconds, 0 when trying again does not help."""

    status: int
    code: str
    message: str
    hint: str = ""
    pointer: str = ""
    retry_after: int = 0
    violations: tuple[Violation, ...] = ()
    headers: bytes = b""

    def body(self, request_id: str, *, flat: bool = False) -> bytes:
        """The JSON body; `request_id` finds the request in the logs. `flat`: as Open Inference
        Protocol v2 wants it, with the message as a plain text under ``error``."""
        error: dict[str, object] = {"code": self.code, "message": self.message,
                                    "pointer": self.pointer, "hint": self.hint,
                                    "id": request_id}  # fmt: skip
        if len(self.violations) > 1:
            error["violations"] = self.violations
        if flat:
            return msgspec.json.encode({"error": error.pop("message"), **error})
        return msgspec.json.encode({"error": error})

    def head(self) -> bytes:
        """Extra header lines."""
        retry = b"retry-after: %d\r\n" % self.retry_after if self.retry_after else b""
        return self.headers + retry


def refusal_of(error: FairleadError, pointer: str = "") -> Refusal:
    """The HTTP form of an error; `pointer` goes before the error's own pointer."""
    status, code = next((s, c) for kind, s, c in _KINDS if isinstance(error, kind))
    violations: tuple[Violation, ...] = ()
    if isinstance(error, Refused):
        code = error.violations[0].code
        violations = tuple(
            msgspec.structs.replace(v, pointer=pointer + v.pointer) for v in error.violations
        )
    return Refusal(status=status, code=code, message=str(error), hint=error.hint,
                   pointer=pointer + error.pointer if pointer or error.pointer else "",
                   retry_after=1 if status == 503 else 0, violations=violations)  # fmt: skip
