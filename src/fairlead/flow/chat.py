"""Chats: a provider's model, a prompt and parameters become a package, proven by conversations."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from fairlead.core.artifact import Artifact, ModelSpec, PackageSpec, name_of
from fairlead.core.chat import (
    CONVERSATIONS,
    OPENAI,
    PROVIDER,
    Conversation,
    Heard,
    Provider,
    conversations_of,
    faults,
    provider_of,
)
from fairlead.core.check import Bound, Check
from fairlead.core.decision import Decision
from fairlead.core.duration import seconds
from fairlead.core.encoding import Encoding
from fairlead.core.evidence import Evidence
from fairlead.core.manifest import ChatSection
from fairlead.core.ref import Ref, canonical
from fairlead.core.schema import Schema
from fairlead.errors import Conflict, Forbidden, Invalid, Missing
from fairlead.flow.gate import judged
from fairlead.flow.package import restore
from fairlead.ports import Blobs, Change, Clock, Records

__all__ = ["Reply", "admit", "compose", "gate", "is_chat", "package"]

HELLO = Conversation(name="hello", messages=[{"role": "user", "content": "Hello"}])
"""What is asked where nobody wrote a conversation: that there is an answer."""


class Reply(Struct, frozen=True, kw_only=True):
    """What a provider answered to a sample: seconds to the first token and in all, and what went
    wrong ("": nothing)."""

    heard: Heard
    first_token: float
    seconds: float
    trouble: str = ""


class _Samples(Struct, frozen=True, kw_only=True):
    conversations: list[Conversation]


Ask = Callable[[Provider, Conversation], Reply]


def is_chat(artifact: Artifact) -> bool:
    """Whether a model or a package is one that a provider answers."""
    return isinstance(artifact.spec, ModelSpec | PackageSpec) and artifact.spec.flavor == OPENAI


def compose(section: ChatSection, *, name: str, root: Path, records: Records, blobs: Blobs,
            clock: Clock, actor: str) -> Artifact:  # fmt: skip
    """Record what the manifest and its files say now as a model ("chat.composed"); the same again is
    the same model. Raises Missing (a file), Invalid (conversations that are none)."""
    samples = conversations_of(_read(root, section.conversations).encode() or b"[]", section.conversations) or [HELLO]
    if len({s.name for s in samples}) < len(samples):
        raise Invalid(f"{section.conversations} names two conversations alike", hint="give each a name of its own")
    provider = Provider(
        url=section.url.rstrip("/"), model=section.model, key_env=section.key_env, key_file=section.key_file,
        system=_read(root, section.system).strip(), template=_read(root, section.template).strip("\n"),
        parameters=dict(sorted(section.parameters.items())), timeout=seconds(section.timeout),
        price=section.price, first_token=seconds(section.first_token), allow_private=section.allow_private,
    )  # fmt: skip
    spec = ModelSpec(flavor=OPENAI, task="chat", inputs=Schema(columns=()), encoding=Encoding(()),
                     files={PROVIDER: blobs.put(canonical(provider)), CONVERSATIONS: blobs.put(canonical(_Samples(conversations=samples)))})  # fmt: skip
    ref = name_of(name, spec)
    with suppress(Missing):
        return records.artifact(ref)
    made = Artifact(ref=ref, spec=spec, created_at=clock.now())
    records.commit(Change(at=made.created_at, actor=actor, verb="chat.composed", subject=str(ref), artifacts=(made,),
                          body={"host": _host(provider.url), "model": provider.model, "conversations": len(samples)}))  # fmt: skip
    return made


def gate(model: Artifact, baseline: Ref | None, ask: Ask, *, records: Records, blobs: Blobs, clock: Clock,
         actor: str, on_progress: Callable[[str], None] = lambda text: None) -> Decision:  # fmt: skip
    """Ask every conversation for real, judge the answers, and record the decision."""
    started, evidence, checks = clock.now(), list[Evidence](), list[Check]()
    provider = _provider(model, blobs)
    replies = []
    for sample in _samples(model, blobs):
        on_progress(f"asking {sample.name}")
        reply = ask(provider, sample)
        wrong = [reply.trouble] if reply.trouble else faults(sample, reply.heard) or _empty(reply.heard)
        measure = f"conversation:{sample.name}"
        evidence.append(Evidence(subject=model.ref, measure=measure, value=len(wrong), n=1))
        told = f": {'; '.join(wrong)}" if wrong else ""
        checks.append(Check(name=f"{sample.name}{told}", measure=measure, rule=Bound(high=0)))
        replies += [] if reply.trouble else [reply]
    evidence += _measured(model.ref, provider, replies)
    return judged(model.ref, baseline, tuple(checks), tuple(evidence), started, records, clock, actor)


def package(model: Artifact, *, name: str, packages: Path, records: Records, blobs: Blobs, clock: Clock,
            actor: str) -> Artifact:  # fmt: skip
    """Record and lay down the package of a model that the gate has asked ("package.built"). Raises
    Conflict when it was not asked yet."""
    spec = model.spec
    assert isinstance(spec, ModelSpec)
    if not records.decisions(model.ref):
        raise Conflict(f"{model.ref.short} was not asked yet", hint="`fairlead gate` asks its conversations")
    made = PackageSpec(model=model.ref, flavor=spec.flavor, task=spec.task, contract=spec.inputs,
                       encoding=spec.encoding, files=spec.files)  # fmt: skip
    artifact = Artifact(ref=name_of(name, made), spec=made, parents=(model.ref,), created_at=clock.now())
    restore(artifact, packages, blobs)
    asked = records.decisions(model.ref)[-1]
    records.commit(Change(at=artifact.created_at, actor=actor, verb="package.built", subject=str(artifact.ref),
                          body={"conversations": len(asked.because)}, artifacts=(artifact,)))  # fmt: skip
    return artifact


def admit(ref: Ref, section: ChatSection | None, records: Records, blobs: Blobs) -> None:
    """A package may only ask whom the manifest names, and show the key that is meant for them. Raises
    Forbidden, Invalid (a package for rows)."""
    artifact = records.artifact(ref)
    if is_chat(artifact) != (section is not None):
        raise Invalid(f"{ref.short} answers {'chats' if section is None else 'rows'}, and this service does not",
                      hint="one service serves one kind: with `chat`, or with `data` and `train`")  # fmt: skip
    if section is not None:
        provider = _provider(artifact, blobs)
        host, key = _host(provider.url), provider.key_env or provider.key_file
        keys = {_host(section.url): {section.key_env, section.key_file, ""}}
        keys |= {other: {shown, ""} for other, shown in section.hosts.items() if other not in keys}
        if key not in keys.get(host, ()):
            what = f"asks {host}" if host not in keys else f"shows {host} the key {key}"
            raise Forbidden(f"{ref.short} {what}, which this project does not allow",
                            hint="chat.hosts lists other providers, each with the key it may be shown")  # fmt: skip


def _measured(subject: Ref, provider: Provider, replies: list[Reply]) -> list[Evidence]:
    """The slowest answer, and means per answer; what the provider did not say is left out."""
    if not replies:
        return []
    costs = [r.heard.numbers(provider.price, 0.0) for r in replies]
    means = {"cost": [c[0] for c in costs], "tokens": [c[1] + c[2] for c in costs],
             "first_token_ms": [r.first_token * 1e3 for r in replies]}  # fmt: skip
    found = {name: sum(values) / len(values) for name, values in means.items()}
    found["latency_max_ms"] = max(r.seconds for r in replies) * 1e3
    return [Evidence(subject=subject, measure=name, value=value, n=len(replies))
            for name, value in found.items() if value == value]  # fmt: skip


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _empty(heard: Heard) -> list[str]:
    said = heard.said()
    return [] if said["answer"] or "tool_calls" in said else ["an empty answer"]


def _provider(artifact: Artifact, blobs: Blobs) -> Provider:
    return provider_of(blobs.get(_files(artifact)[PROVIDER]))


def _samples(artifact: Artifact, blobs: Blobs) -> list[Conversation]:
    return msgspec.json.decode(blobs.get(_files(artifact)[CONVERSATIONS]), type=_Samples).conversations


def _files(artifact: Artifact) -> dict[str, str]:
    assert isinstance(artifact.spec, ModelSpec | PackageSpec)
    return artifact.spec.files


def _read(root: Path, name: str) -> str:
    if not name:
        return ""
    try:
        return (root / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Missing(f"{name} cannot be read: {error}", hint="chat names files relative to fairlead.yaml") from None
