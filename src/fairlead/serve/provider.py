"""The lane to a provider: what a gateway knows of a package that somebody else's server answers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from time import perf_counter
from typing import Any

import msgspec

from fairlead.core.chat import (
    PATHS,
    PROVIDER,
    Conversation,
    Events,
    Heard,
    Provider,
    addressed,
    provider_of,
)
from fairlead.errors import Invalid, Unavailable
from fairlead.serve.batch import Desk, Lane
from fairlead.serve.reader import Reader
from fairlead.serve.refusal import Refusal
from fairlead.serve.upstream import Answer, Upstream

__all__ = ["MOST", "Failure", "ProviderLane", "Secret", "converse", "pieces", "refused"]

Secret = Callable[[str, str], str]
"""The key that a variable, or a file of the project, holds; raises Unavailable when there is none."""
QUESTION = (400, 413, 422)
"""Answers of a provider that blame what was asked."""
MOST = 2**24
"""Bytes of a whole answer, and of a stream, at most."""
SAID = 2**16
"""Bytes of an error that are read."""


class Failure(msgspec.Struct, frozen=True):
    """Why a package gave no answer, and what its caller is told if nobody does. `asked`: the provider
    blames the question, which another package may take."""

    reason: str
    refusal: Refusal
    asked: bool = False


class ProviderLane(Lane):
    """No replica, no queue: every question is a request of its own. It is always up: what the
    provider does shows when it is asked."""

    def __init__(self, reader: Reader, desk: Desk, loop: asyncio.AbstractEventLoop,
                 files: Mapping[str, bytes], secret: Secret, deadline: float) -> None:  # fmt: skip
        """Raises Corrupt, or Invalid for an address that cannot be meant."""
        super().__init__(reader, desk, loop, shadow_limit=0, loading=deadline, deadline=deadline)
        self.provider = provider_of(files.get(PROVIDER, b""))
        self.upstream = Upstream(self.provider.url, allow_private=self.provider.allow_private)
        self._secret = secret
        self.ready_once = True
        self.calls = 0

    @property
    def up(self) -> bool:
        return True

    @property
    def idle(self) -> bool:
        return not self.calls

    async def key(self) -> str:
        """What the provider is shown; "" for nothing. Raises Unavailable."""
        variable, file = self.provider.key_env, self.provider.key_file
        if file:  # A disk that is slow must not hold up who else is answered.
            return await asyncio.to_thread(self._secret, variable, file)
        return self._secret(variable, file) if variable else ""

    def trouble(self, now: float, patience: float) -> str | None:
        if not self.breaker.allows(now):
            return "the provider fails too often and is not asked for a while"
        return None

    def judge(self, failed: bool) -> None:
        """Whether the provider failed to answer just now."""
        if failed:
            self.breaker.bad(perf_counter())
        else:
            self.breaker.good()

    def hang_up(self) -> None:
        super().hang_up()
        self.upstream.close()


async def pieces(answer: Answer, heard: Heard) -> AsyncIterator[tuple[dict[str, Any], bool]]:
    """The events of a stream, each with whether it brought something to read; `heard` takes them in.

    Raises Unavailable when the provider breaks off, Invalid or msgspec.DecodeError when it talks nonsense.
    """
    events, size = Events(), 0
    async for data in answer:
        size += len(data)
        if size > MOST:
            raise Unavailable(f"its answer is over {MOST} bytes")
        for event in events.feed(data):
            if event == b"[DONE]":
                await answer.finish()
                return
            piece = _decode(event)
            if piece.get("error"):
                raise Unavailable(f"the provider breaks off: {_message(piece['error'])}")
            yield piece, heard.take(piece)
    if not heard.finish:
        raise Unavailable("the stream ended before the answer did")


async def converse(provider: Provider, sample: Conversation, key: str) -> tuple[Heard, float, float, str]:
    """Ask a sample: the answer, seconds to the first token and in all, and what went wrong ("": nothing)."""
    heard, started, first, trouble = Heard(), perf_counter(), 0.0, ""
    upstream = Upstream(provider.url, allow_private=provider.allow_private)
    body = addressed(provider, {"messages": sample.messages}, "chat", stream=True)
    try:
        async with asyncio.timeout(provider.timeout), upstream.post(PATHS["chat"], body, key) as answer:
            if answer.status != 200:
                trouble = (await refused(answer, key)).reason
            else:
                async for _, brought in pieces(answer, heard):
                    first = first or (perf_counter() - started if brought else 0.0)
    except TimeoutError:
        trouble = f"no answer within {provider.timeout:g} s"
    except (Invalid, Unavailable, msgspec.DecodeError, UnicodeDecodeError) as error:
        trouble = str(error).replace(key or "\0", "***")
    finally:
        upstream.close()
    return heard, first, perf_counter() - started, trouble


def _message(error: object) -> str:
    said = error.get("message") if isinstance(error, dict) else error
    return str(said)[:200]


_decode = msgspec.json.Decoder(dict[str, Any]).decode


class _Told(msgspec.Struct):
    message: str = ""


class _Error(msgspec.Struct):
    error: _Told | str


async def refused(answer: Answer, key: str) -> Failure:
    """What an answer that is none says. A provider that refuses the key is not quoted: some repeat it."""
    status, said = answer.status, ""
    if status not in (401, 403):
        try:
            told = msgspec.json.decode(await answer.whole(SAID), type=_Error).error
            said = (told if isinstance(told, str) else told.message)[:300]
        except (msgspec.DecodeError, UnicodeDecodeError, Unavailable):
            said = ""
    said = said.replace(key, "***") if key else said
    reason = f"the provider answers {status}" + (f": {said}" if said else "")
    if 300 <= status < 400:
        reason += "; redirects are not followed"
    if status in QUESTION:
        return Failure(reason, Refusal(status=status, code="provider", message=said or "the provider refuses this question",
                                       hint="change the question"), asked=True)  # fmt: skip
    after = answer.headers.get(b"retry-after", b"")
    wait = min(int(after), 3600) if after.isdigit() else 1
    if status == 429:
        return Failure(reason, Refusal(status=429, code="busy", message="the provider is asked too often",
                                       hint="try again later", retry_after=max(1, wait)))  # fmt: skip
    return Failure(reason, Refusal(status=503, code="unavailable", message="the provider failed",
                                   hint="try again", retry_after=max(1, wait)))  # fmt: skip
