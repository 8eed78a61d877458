"""Trusting a package that brings its own code: who may, what is written down, and what is asked before it runs."""

import os
from collections.abc import Mapping
from pathlib import Path

from fairlead.core import trust as core
from fairlead.core.artifact import OWN_CODE, Artifact, ModelSpec, PackageSpec
from fairlead.core.identity import Caller
from fairlead.core.ref import Ref
from fairlead.core.statement import Verify
from fairlead.core.trust import Trust
from fairlead.disk import content, sync
from fairlead.errors import Forbidden, Invalid, Missing
from fairlead.flow.approval import makers
from fairlead.ports import Change, Clock, Records, Signer

__all__ = ["asks", "at_home", "check", "give", "withdraw"]

TRUSTED, WITHDRAWN = "package.trusted", "package.distrusted"
DAY = 86_400.0
LONGEST = 366 * DAY


def asks(package: Artifact) -> bool:
    """Whether a package brings code, and so has to be trusted."""
    return isinstance(package.spec, PackageSpec) and package.spec.flavor in OWN_CODE


def give(
    package: Artifact, folder: Path, reason: str, lasts: float, *, caller: Caller, governed: bool,
    environment: str, records: Records, clock: Clock, signer: Signer,
) -> Trust:  # fmt: skip
    """Let a package's own code run for `lasts` seconds ("package.trusted"); the signed word goes into
    `folder`. Raises Forbidden (one's own, where people are known), Invalid."""
    now = clock.now()
    if not asks(package):
        raise Invalid(f"{package.ref.short} brings no code of its own", hint="only such packages need trust")
    if not reason.strip() or not 0 < lasts <= LONGEST:
        raise Invalid(f"trust for {lasts / DAY:g} days because of {reason!r}",
                      hint="--reason says what was looked at; --lasts is at most 366d")  # fmt: skip
    if governed and caller.name in makers(records, [package.ref]):
        raise Forbidden(f"{caller.name} made {package.ref.short}, and nobody trusts their own",
                        hint="an approver who did not make it reads the code and trusts it")  # fmt: skip
    made = Trust(package=package.ref, by=caller.name, reason=reason, environment=environment,
                 at=now, expires_at=now + lasts)  # fmt: skip
    data = core.seal(made, signer.key, signer.sign)
    records.commit(Change(at=now, actor=caller.name, verb=TRUSTED, subject=str(package.ref), body={
        "reason": reason, "expires_at": made.expires_at, "environment": environment,
        "key": signer.key, "token": caller.token}))  # fmt: skip
    folder.mkdir(exist_ok=True, mode=0o700)
    draft = folder / f".{package.ref.digest}"
    draft.write_bytes(data)
    sync(draft)
    draft.replace(folder / core.place(package.ref.digest))
    sync(folder)
    return made


def withdraw(
    package: Artifact, folder: Path, reason: str, *, caller: Caller, records: Records, clock: Clock
) -> None:
    """Trust it no longer ("package.distrusted"): replicas that run go on, none opens it again.
    Raises Missing, Invalid."""
    if not reason.strip():
        raise Invalid("no reason is given", hint="--reason says why, for whoever reads the audit log")
    word = folder / core.place(package.ref.digest)
    if not _until(package.ref, records) and not os.path.lexists(word):
        raise Missing(f"nobody trusts {package.ref.short}", hint="there is nothing to withdraw")
    folder.mkdir(exist_ok=True, mode=0o700)
    word.unlink(missing_ok=True)
    sync(folder)
    records.commit(Change(at=clock.now(), actor=caller.name, verb=WITHDRAWN, subject=str(package.ref),
                          body={"reason": reason, "token": caller.token}))  # fmt: skip


def check(package: Artifact, folder: Path, keys: Mapping[str, str], verify: Verify, *,
          records: Records, clock: Clock) -> Trust | None:  # fmt: skip
    """Whether a package may be released: the signed word holds, and the log has not withdrawn it;
    None for one that brings no code. Raises Forbidden, Corrupt."""
    if not asks(package):
        return None
    name = core.place(package.ref.digest)
    data = content(folder, name) if _until(package.ref, records) and os.path.lexists(folder / name) else None
    return core.demand(data, package.ref.digest, clock.now(), keys, verify)


def at_home(records: Records, clock: Clock, *models: Artifact) -> None:
    """Jobs run a model's own code with this user's rights: only where it was trained here, or a
    package of it is trusted now. Raises Forbidden."""
    for model in models:
        if not isinstance(model.spec, ModelSpec) or model.spec.flavor not in OWN_CODE:
            continue
        packages = [a.ref for a in records.artifacts("package")
                    if isinstance(a.spec, PackageSpec) and a.spec.model == model.ref]  # fmt: skip
        trained = any(e.verb == "model.trained" for e in records.events(subject=str(model.ref)))
        if not trained and not any(_until(p, records) > clock.now() for p in packages):
            raise Forbidden(f"{model.ref.short} brings code of its own and was not trained here: it is not run",
                            hint=f"`fairlead trust {packages[0].digest[:12] if packages else 'PACKAGE'} --reason TEXT`")  # fmt: skip


def _until(package: Ref, records: Records) -> float:
    """When the newest word on it in the log ends (UTC seconds); 0 where that is none of trust."""
    words = [e for e in records.events(subject=str(package)) if e.verb in (TRUSTED, WITHDRAWN)]
    return float(words[-1].body["expires_at"]) if words and words[-1].verb == TRUSTED else 0.0
