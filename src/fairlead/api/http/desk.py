"""The desk of the control API: whoever asks is known before anything of the request is read."""

import logging

from fairlead.core.identity import Power
from fairlead.errors import FairleadError, Forbidden, Invalid
from fairlead.project import Project
from fairlead.serve.endpoint import Callers, is_loopback
from fairlead.serve.refusal import Refusal, refusal_of

__all__ = ["Desk", "plain"]

log = logging.getLogger("fairlead.control")

BEARER = b"www-authenticate: Bearer\r\n"


class Desk(Callers):
    """Decides as of now, for every request: a token that was revoked a moment ago is refused.

    Where nobody is known yet, whoever can read the token of this start may do everything, from
    this machine only; where people are known that token is good for nothing.
    """

    def __init__(self, host: str, project: Project, token: str) -> None:
        """Raises Invalid when it would be open to the network without people."""
        super().__init__(host, token, rate=project.manifest.serve.rate)
        self._project = project
        if not is_loopback(host) and not project.identity.governed:
            raise Invalid(f"the control API on {host} is open to the network, and nobody is known here",
                          hint="`fairlead people add NAME --role admin`, or listen on 127.0.0.1")  # fmt: skip

    def refuse(self, access: str, host: str, origin: str, authorization: bytes) -> Refusal | None:
        """None when this caller has the power `access`."""
        refusal = super().refuse("anyone", host, origin, b"")
        if refusal is not None or access == "anyone":
            return refusal
        try:
            if not self._project.identity.governed:
                return super().refuse(access, host, origin, authorization)
            return self._ask(access, authorization)  # type: ignore[arg-type]
        except FairleadError as error:
            return plain(error, "")

    def _ask(self, power: Power, authorization: bytes) -> Refusal | None:
        project, (scheme, _, shown) = self._project, authorization.partition(b" ")
        try:
            caller = project.identity.caller(
                shown.decode("latin-1") if scheme == b"Bearer" else "", project.clock.now(),
                project.manifest.environment.name)  # fmt: skip
        except Forbidden as error:
            return Refusal(status=401, code="token", message=str(error), headers=BEARER,
                           hint="send Authorization: Bearer TOKEN; an admin issues tokens")  # fmt: skip
        try:
            caller.must(power)
        except Forbidden as error:
            return refusal_of(error)
        return None


def plain(error: FairleadError, request_id: str) -> Refusal:
    """The HTTP form of an error. What is wrong inside is for the log, not for callers."""
    refusal = refusal_of(error)
    if refusal.status < 500:
        return refusal
    log.error("%s: %s (%s)", request_id, error, error.hint)
    return Refusal(status=refusal.status, code=refusal.code, retry_after=refusal.retry_after,
                   message="the project cannot be asked now", hint="the log has the details under this id")  # fmt: skip
