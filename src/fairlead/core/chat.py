"""Chat: a package that is a provider's model, a prompt and parameters; what it is asked, what it answers."""

from math import nan
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from fairlead.core.contract import Malformed
from fairlead.core.manifest import PriceText
from fairlead.errors import Corrupt, Invalid

__all__ = ["CONVERSATIONS", "NUMBERS", "OPENAI", "PATHS", "PROVIDER", "Conversation", "Events", "Form", "Heard",
           "Provider", "addressed", "conversations_of", "faults", "provider_of", "question", "unit_of"]  # fmt: skip

OPENAI: Final = "openai"
"""The flavor of packages that a provider answers."""
PROVIDER, CONVERSATIONS = "provider.json", "conversations.json"
"""The files of such a package: what it is, and the conversations it was proven with."""

Form = Literal["chat", "text"]
PATHS: dict[Form, str] = {"chat": "/chat/completions", "text": "/completions"}
"""Behind the provider's address, and behind ``/v1`` of the gateway."""

NUMBERS = ("cost", "prompt_tokens", "completion_tokens", "first_token")
"""What is measured of every answer: money, tokens, tokens, and seconds to the first token."""
CAPS = ("max_tokens", "max_completion_tokens")
"""Parameters that a caller may lower; all others are as the package says."""
PLACE = "{message}"
"""Where a template takes what the user wrote."""
KEPT = 2**18
"""Characters of an answer that are written down."""
EVENT = 2**20
"""Bytes of one event of a stream at most."""


class Provider(Struct, frozen=True, kw_only=True):
    """Who is asked, and how. `url`: what comes before ``/chat/completions``. The key is named, never
    held: `key_env` a variable of the gateway's environment, `key_file` a file of the project.
    `first_token` and `timeout`: seconds until the first token, and for the whole answer."""

    url: str
    model: str
    key_env: str = ""
    key_file: str = ""
    system: str = ""
    template: str = ""
    parameters: dict[str, Any] = {}
    price: PriceText = PriceText()
    timeout: float = 60.0
    first_token: float = 20.0
    allow_private: bool = False


class Conversation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sample: what is asked, and what must hold of the answer. `json`: it is a JSON document."""

    name: str
    messages: list[dict[str, Any]]
    contains: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    json: bool = False
    max_tokens: int = 0


_object = msgspec.json.Decoder(dict[str, Any]).decode
_provider = msgspec.json.Decoder(Provider).decode


def provider_of(data: bytes) -> Provider:
    """Raises Corrupt."""
    try:
        return _provider(data)
    except msgspec.DecodeError as error:
        raise Corrupt(f"{PROVIDER} is of another version: {error}", hint="package it again") from None


def conversations_of(data: bytes, name: str = CONVERSATIONS) -> list[Conversation]:
    """Raises Invalid, saying where a file is not a list of conversations."""
    try:
        return msgspec.json.decode(data, type=list[Conversation])
    except msgspec.DecodeError as error:
        raise Invalid(f"{name}: {error}", hint='a list of {"name": ..., "messages": [...], "contains": [...]}') from None


def question(body: bytes, form: Form) -> dict[str, Any]:
    """What a caller asks. Raises Malformed (no JSON object), Invalid."""
    try:
        asked = _object(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(f"the body is not a JSON object: {error}"[:200],
                        hint='send {"model": ..., "messages": [...]}') from None  # fmt: skip
    if form == "text" and not isinstance(asked.get("prompt"), str):
        raise Invalid("there is no prompt", hint="a text under `prompt`", pointer="/prompt")
    messages = asked.get("messages")
    if form == "chat" and not (isinstance(messages, list) and messages):
        raise Invalid("there are no messages", hint='a list of {"role": ..., "content": ...}', pointer="/messages")
    for i, one in enumerate(messages or () if form == "chat" else ()):
        if not isinstance(one, dict) or not isinstance(one.get("role"), str):
            raise Invalid(f"message {i} has no role", hint='{"role": "user", "content": "..."}', pointer=f"/messages/{i}")
    if asked.get("n") not in (None, 1):
        raise Invalid(f"{asked['n']!r:.20} answers to one question", hint="ask for one: leave `n` out", pointer="/n")
    return asked


def unit_of(asked: dict[str, Any]) -> str:
    """Whom the answers of one package are to be given to: the user, else the conversation, else ""."""
    more = asked.get("metadata")
    said = (asked.get("user"), asked.get("safety_identifier"),
            more.get("conversation_id") if isinstance(more, dict) else None)  # fmt: skip
    return next((s for s in said if isinstance(s, str) and s), "")


def addressed(provider: Provider, asked: dict[str, Any], form: Form, *, stream: bool) -> bytes:
    """The body the provider is sent: what the caller asked, under what the package says."""
    kept = {k: v for k, v in asked.items() if k not in (*CAPS, "stream_options")}
    fixed = dict(provider.parameters)
    wanted = {k: asked[k] for k in CAPS if isinstance(asked.get(k), int)}
    cap = next((k for k in CAPS if k in fixed), "")
    if cap:
        fixed[cap] = min(fixed[cap], *wanted.values()) if wanted else fixed[cap]
        wanted = {}
    made = kept | wanted | fixed | {"model": provider.model, "stream": stream}
    if stream:
        made["stream_options"] = {"include_usage": True}
    if form == "chat":
        first = [{"role": "system", "content": provider.system}] if provider.system else []
        made["messages"] = [*first, *_framed(provider.template, asked["messages"])]
    else:
        text = _placed(provider.template, asked["prompt"])
        made["prompt"] = f"{provider.system}\n\n{text}" if provider.system else text
    return msgspec.json.encode(made)


def _framed(template: str, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages, with what the user said last in its place in the template."""
    last = max((i for i, m in enumerate(messages) if m["role"] == "user"), default=-1)
    return [{**m, "content": _placed(template, m["content"])}
            if i == last and isinstance(m.get("content"), str) else m for i, m in enumerate(messages)]  # fmt: skip


def _placed(template: str, text: str) -> str:
    return template.replace(PLACE, text) if template else text


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct):
    index: int | None = None
    function: _Function | None = None


class _Said(Struct):
    content: Any = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(Struct):
    delta: _Said | None = None
    message: _Said | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Piece(Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


class Heard:
    """What came of an answer so far, whole or piece by piece. `finish`: why it ended, "" while it has
    not; `tokens`: of the prompt and of the answer, NaN when the provider did not say."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._calls: dict[int, _Function] = {}
        self._size = 0
        self.finish = ""
        self.tokens = (nan, nan)

    def take(self, piece: dict[str, Any]) -> bool:
        """Take a piece in; whether it brought anything to read. Raises Invalid when it is no answer."""
        try:
            found = msgspec.convert(piece, _Piece)
        except msgspec.ValidationError as error:
            raise Invalid(f"this is no answer of an OpenAI-compatible server: {error}"[:200]) from None
        if found.usage is not None:
            self.tokens = (float(found.usage.prompt_tokens), float(found.usage.completion_tokens))
        for choice in found.choices[:1]:
            said = choice.delta or choice.message or _Said(content=choice.text)
            self.finish = choice.finish_reason or self.finish
            for i, call in enumerate(said.tool_calls or ()):
                self._call(i if call.index is None else call.index, call.function or _Function())
            return self._text(said.content or said.refusal) or bool(said.tool_calls)
        return False

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def said(self) -> dict[str, Any]:
        """What the log keeps beside the numbers."""
        calls = [{"name": c.name, "arguments": c.arguments} for c in self._calls.values()]
        return {"answer": self.text, "finish_reason": self.finish} | ({"tool_calls": calls} if calls else {})

    def numbers(self, price: PriceText, first_token: float) -> list[float]:
        """NUMBERS of this answer."""
        prompt, completion = self.tokens
        return [(prompt * price.prompt + completion * price.completion) / 1000, prompt, completion, first_token]

    def _text(self, content: object) -> bool:
        if not isinstance(content, str) or not content:
            return False
        self._parts.append(content[: max(0, KEPT - self._size)])
        self._size += len(content)
        return True

    def _call(self, place: int, more: _Function) -> None:
        kept = self._calls.setdefault(place, _Function("", ""))
        kept.name = f"{kept.name}{more.name or ''}"
        kept.arguments = f"{kept.arguments}{more.arguments or ''}"[:KEPT]


def faults(sample: Conversation, heard: Heard) -> list[str]:
    """What does not hold of the answer to a sample, in words."""
    text, used = heard.text, heard.tokens[1]
    found = [f"does not contain {t!r}" for t in sample.contains if t.lower() not in text.lower()]
    found += [f"contains {t!r}" for t in sample.excludes if t.lower() in text.lower()]
    if sample.json:
        try:
            msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            found.append(f"is no JSON: {error}")
    if sample.max_tokens and not used <= sample.max_tokens:
        found.append(f"took {used:g} tokens, {sample.max_tokens} are allowed")
    return found


class Events:
    """Server-sent events out of pieces of bytes, however they are cut."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, more: bytes) -> list[bytes]:
        """The data of every event that is whole now. Raises Invalid for one over 1 MB."""
        *lines, self._rest = (self._rest + more).split(b"\n")
        found = []
        for line in (x.rstrip(b"\r") for x in lines):
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                found.append(b"\n".join(self._data))
                self._data = []
        if len(self._rest) + sum(map(len, self._data)) > EVENT:
            raise Invalid("an event of the stream is over 1 MB")
        return found
