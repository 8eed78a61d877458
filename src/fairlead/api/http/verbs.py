"""Everything that can be asked over HTTP. What answers is what the command line prints with --json."""

from itertools import islice
from math import inf
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from fairlead.api.commands.lab import newest
from fairlead.api.commands.people import known
from fairlead.api.commands.release import look
from fairlead.api.http.verb import Nothing, Verb
from fairlead.api.present.script import simple
from fairlead.core.artifact import Artifact
from fairlead.core.ref import Kind
from fairlead.core.release import Release
from fairlead.errors import Invalid, Missing
from fairlead.flow.approval import Card, policy_of
from fairlead.project import Project

__all__ = ["VERBS"]

LONG = 60.0
Id = Annotated[str, Meta(min_length=1, max_length=200)]
Text = Annotated[str, Meta(max_length=2000)]
MOST = 2**53
"""The largest number that JSON's readers agree on; records hold it as well."""
Number = Annotated[int, Meta(ge=1, le=MOST)]


class Listing(Struct, frozen=True, forbid_unknown_fields=True):
    """`kind` and `name` narrow it; "" does not."""

    kind: Kind | Literal[""] = ""
    name: Annotated[str, Meta(max_length=200)] = ""


class One(Struct, frozen=True, forbid_unknown_fields=True):
    """A thing by its id: a reference, a digest prefix, or the id it was given."""

    id: Id


class People(Struct, frozen=True, forbid_unknown_fields=True):
    """A model, or a span of the past of what serves."""

    model: Text = ""
    last: Text = ""


class Chosen(Struct, frozen=True, forbid_unknown_fields=True):
    """A release; "" is the running one."""

    release: Annotated[str, Meta(max_length=200)] = ""
    reason: Text = "over HTTP"


class Start(Struct, frozen=True, forbid_unknown_fields=True):
    """`packages` by digest prefix (none: the newest); `plan`: "" is the manifest's."""

    packages: Annotated[tuple[Id, ...], Meta(max_length=10)] = ()
    plan: Annotated[str, Meta(max_length=100)] = ""
    force: Text = ""
    break_glass: Text = ""


class Request(Struct, frozen=True, forbid_unknown_fields=True):
    """As for a start."""

    packages: Annotated[tuple[Id, ...], Meta(max_length=10)] = ()
    plan: Annotated[str, Meta(max_length=100)] = ""
    reason: Text = ""


class Asked(Struct, frozen=True, forbid_unknown_fields=True):
    """An approval by its number."""

    id: Number


class Said(Struct, frozen=True, forbid_unknown_fields=True):
    """What one says to an approval or an alert."""

    id: Number
    reason: Text


class Reason(Struct, frozen=True, forbid_unknown_fields=True):
    """Why; it stands in the audit log."""

    reason: Text


class Silence(Struct, frozen=True, forbid_unknown_fields=True):
    """A monitor, for so long (``2h``)."""

    monitor: Id
    reason: Text
    length: Annotated[str, Meta(max_length=50)] = "2h"


class Events(Struct, frozen=True, forbid_unknown_fields=True):
    """Those after `since`, at most `limit`, about `subject` where it is given."""

    since: Annotated[int, Meta(ge=0, le=MOST)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    subject: Annotated[str, Meta(max_length=300)] = ""


class Touched(Struct, frozen=True, forbid_unknown_fields=True):
    """An artifact, and a stretch of time in UTC seconds."""

    id: Id
    since: float = 0.0
    until: float = inf


class Newcomer(Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody, and how long their first token lasts."""

    name: Id
    roles: tuple[Id, ...]
    expires: Annotated[str, Meta(max_length=50)] = "90d"


class Guest(Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody (with roles: who is not known yet), how long the invitation lasts, and then the token."""

    name: Id
    roles: tuple[Id, ...] = ()
    expires: Annotated[str, Meta(max_length=50)] = "2d"
    token_expires: Annotated[str, Meta(max_length=50)] = "90d"


class Roles(Struct, frozen=True, forbid_unknown_fields=True):
    """Roles instead of those somebody has."""

    name: Id
    roles: tuple[Id, ...]


class Named(Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody."""

    name: Id


class Issue(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose token, and what it is good for ((): everything the owner may)."""

    name: Id
    expires: Annotated[str, Meta(max_length=50)] = "90d"
    powers: tuple[Id, ...] = ()
    environment: Annotated[str, Meta(max_length=63)] = ""


class Revoke(Struct, frozen=True, forbid_unknown_fields=True):
    """A token by its id."""

    id: Id
    reason: Text = ""


def whoami(project: Project, asked: Nothing) -> Any:
    """Who the token says is calling, and what they may."""
    return project.caller()


def status(project: Project, asked: Nothing) -> Any:
    """What is live, what is being released, what is wrong, and what waits for somebody."""
    releases, approvals = project.records.releases(project.name), project.approvals()
    cards = [project.approval(number) for number in approvals.all]
    return {"service": project.records.service(project.name) or project.name,
            "environment": project.manifest.environment.name,
            "release": look(project, releases[-1].id) if releases else None, "alerts": project.alerts().open,
            "approvals": [c for c in cards if c.state in ("waiting", "granted")],
            "unreviewed": approvals.unreviewed}  # fmt: skip


def artifacts(project: Project, asked: Listing) -> Any:
    """Datasets, features, models and packages, oldest first."""
    made = project.records.artifacts(asked.kind or None, asked.name)
    return [{"ref": a.ref, "parents": a.parents, "run": a.run, "created_at": a.created_at} for a in made]


def artifact(project: Project, asked: One) -> Artifact:
    """One of them, with its specification."""
    return project.records.find(asked.id)


def runs(project: Project, asked: Nothing) -> Any:
    """Trainings and evaluations, oldest first."""
    return project.records.runs()


def run(project: Project, asked: One) -> Any:
    """One of them: code, parameters, seed, environment, evidence."""
    return project.records.run(asked.id)


def releases(project: Project, asked: Nothing) -> Any:
    """Every release, oldest first."""
    return project.records.releases(project.name)


def release(project: Project, asked: Chosen) -> Any:
    """Where a release stands, and every check with its evidence."""
    return look(project, asked.release)


def start(project: Project, asked: Start) -> Release:
    """Start a release, with the approval it needs."""
    packages = [newest(project, "package", text).ref for text in asked.packages or ("",)]
    return project.start_release(packages, project.plan(asked.plan), force=asked.force, glass=asked.break_glass)


def pause(project: Project, asked: Chosen) -> Release:
    """Stop advancing; the traffic stays as it is."""
    return project.pause(_release(project, asked))


def resume(project: Project, asked: Chosen) -> Release:
    """Advance again."""
    return project.resume(_release(project, asked))


def abort(project: Project, asked: Chosen) -> Release:
    """End a release: the baseline answers everything."""
    return project.abort(_release(project, asked), asked.reason)


def rollback(project: Project, asked: Reason) -> Release:
    """Serve the package that served before."""
    return project.rollback(asked.reason)


def policy(project: Project, asked: Nothing) -> Any:
    """The policy of the manifest, and those that were adopted."""
    return {"here": policy_of(project.manifest), "adopted": project.approvals().policies}


def adopt(project: Project, asked: Reason) -> Any:
    """Make the manifest's policy the one in force."""
    return project.adopt_policy(asked.reason)


def approvals(project: Project, asked: Nothing) -> Any:
    """Every approval with its state, and releases that were started without one."""
    seen = project.approvals()
    return {"approvals": [project.approval(number) for number in seen.all], "broken": list(seen.broken.values())}


def approval(project: Project, asked: Asked) -> Card:
    """What exactly one approves, with the evidence for it."""
    return project.approval(asked.id)


def request(project: Project, asked: Request) -> Card:
    """Ask that a release may start."""
    packages = [newest(project, "package", text).ref for text in asked.packages or ("",)]
    return project.request_approval(packages, project.plan(asked.plan), asked.reason)


def grant(project: Project, asked: Said) -> Card:
    """Let a release through that somebody else made and asked for."""
    return project.grant(asked.id, asked.reason)


def deny(project: Project, asked: Said) -> Card:
    """Do not let it through, or withdraw what one asked for."""
    return project.deny(asked.id, asked.reason)


def review(project: Project, asked: Chosen) -> Any:
    """Look at a release that somebody else started without approval."""
    return project.review(asked.release, asked.reason)


def alerts(project: Project, asked: Nothing) -> Any:
    """Every alert, oldest first."""
    return project.alerts().all


def acknowledge(project: Project, asked: Said) -> Any:
    """Look after an alert."""
    return project.acknowledge(asked.id, asked.reason)


def resolve(project: Project, asked: Said) -> Any:
    """End an alert by hand."""
    return project.resolve_alert(asked.id, asked.reason)


def silence(project: Project, asked: Silence) -> Any:
    """Tell nobody of a monitor for a while; it goes on judging and acting."""
    return project.silence(asked.monitor, asked.length, asked.reason)


def events(project: Project, asked: Events) -> Any:
    """The audit log, oldest first."""
    return list(islice(project.records.events(asked.since, asked.subject), asked.limit))


def verify(project: Project, asked: Nothing) -> Any:
    """Whether no event was changed, dropped or reordered."""
    return {"events": project.verify_audit(), "head": project.records.head()[1], "intact": True}


def why(project: Project, asked: One) -> Any:
    """From one prediction back to the rows its model learnt from; and its explanation, if it has one."""
    try:
        found = project.why(asked.id)
    except Missing:
        if (refused := project.refused(asked.id)) is None:
            raise
        return {"refused": refused}
    return {**simple(found), "explanation": project.explained(found.answer).explanation}


def explanation(project: Project, asked: One) -> Any:
    """What is known of the explanation of a prediction, computing nothing: explained, waiting (its caller
    asked with ``explain=true``), impossible, or unasked."""
    return project.explained(project.log.find(asked.id)[0])


def explain(project: Project, asked: One) -> Any:
    """What each column added to the answer of a prediction; kept under its id from then on."""
    return project.explain(asked.id)


def fairness(project: Project, asked: People) -> Any:
    """How groups of people fare: held-out ones by `model` ("": the newest), or by the `last` 30d."""
    if asked.last:
        return project.live_fairness(asked.last)
    return project.fairness(newest(project, "model", asked.model).ref)


def impact(project: Project, asked: Touched) -> Any:
    """From data or a model forward to the predictions it touched."""
    if not asked.since < asked.until:
        raise Invalid(f"no time lies between {asked.since:g} and {asked.until:g}", hint="UTC seconds, since < until")
    return project.impact(project.records.find(asked.id), since=asked.since, until=asked.until)


def people(project: Project, asked: Nothing) -> Any:
    """Who may do what, and which tokens there are."""
    return {"people": list(project.identity.people.values()), "tokens": known(project.identity)}


def add(project: Project, asked: Newcomer) -> Any:
    """Record somebody; the token is shown this once."""
    return {"name": asked.name, "token": project.add_person(asked.name, asked.roles, asked.expires)}


def invite(project: Project, asked: Guest) -> Any:
    """Somebody takes their own token for this invitation, once; it is shown this once."""
    invitation = project.invite_person(asked.name, asked.roles, asked.expires, asked.token_expires)
    return {"name": asked.name, "invitation": invitation}


def take(project: Project, asked: Nothing) -> Any:
    """One's own token, for the invitation that is shown in its place: it works once."""
    return {"token": project.take_token()}


def change(project: Project, asked: Roles) -> Any:
    """Give somebody other roles; nobody changes their own."""
    project.change_roles(asked.name, asked.roles)
    return project.identity.people[asked.name]


def remove(project: Project, asked: Named) -> Any:
    """Somebody leaves; their tokens end."""
    project.remove_person(asked.name)
    return {"removed": asked.name}


def issue(project: Project, asked: Issue) -> Any:
    """One more token for somebody; it is shown this once."""
    token = project.issue_token(asked.name, asked.expires, asked.powers, asked.environment)
    return {"name": asked.name, "token": token}


def revoke(project: Project, asked: Revoke) -> Any:
    """End a token: one's own, or as an admin anybody's."""
    project.revoke_token(asked.id, asked.reason)
    return {"revoked": asked.id}


def _release(project: Project, asked: Chosen) -> str:
    return look(project, asked.release).release.id


VERBS = (
    Verb(method="GET", path="/v1/whoami", power="look", act=whoami),
    Verb(method="GET", path="/v1/status", power="look", act=status),
    Verb(method="GET", path="/v1/artifacts", power="look", act=artifacts, takes=Listing),
    Verb(method="GET", path="/v1/artifact", power="look", act=artifact, takes=One),
    Verb(method="GET", path="/v1/runs", power="look", act=runs),
    Verb(method="GET", path="/v1/run", power="look", act=run, takes=One),
    Verb(method="GET", path="/v1/releases", power="look", act=releases),
    Verb(method="GET", path="/v1/release", power="look", act=release, takes=Chosen),
    Verb(method="POST", path="/v1/release/start", power="release", act=start, takes=Start),
    Verb(method="POST", path="/v1/release/pause", power="release", act=pause, takes=Chosen),
    Verb(method="POST", path="/v1/release/resume", power="release", act=resume, takes=Chosen),
    Verb(method="POST", path="/v1/release/abort", power="release", act=abort, takes=Chosen),
    Verb(method="POST", path="/v1/release/rollback", power="release", act=rollback, takes=Reason),
    Verb(method="GET", path="/v1/policy", power="look", act=policy),
    Verb(method="POST", path="/v1/policy/adopt", power="administer", act=adopt, takes=Reason),
    Verb(method="GET", path="/v1/approvals", power="look", act=approvals),
    Verb(method="GET", path="/v1/approval", power="look", act=approval, takes=Asked),
    Verb(method="POST", path="/v1/approval/request", power="look", act=request, takes=Request),
    Verb(method="POST", path="/v1/approval/grant", power="approve", act=grant, takes=Said),
    Verb(method="POST", path="/v1/approval/deny", power="look", act=deny, takes=Said),
    Verb(method="POST", path="/v1/approval/review", power="look", act=review, takes=Chosen),
    Verb(method="GET", path="/v1/alerts", power="look", act=alerts),
    Verb(method="POST", path="/v1/alert/acknowledge", power="release", act=acknowledge, takes=Said),
    Verb(method="POST", path="/v1/alert/resolve", power="release", act=resolve, takes=Said),
    Verb(method="POST", path="/v1/alert/silence", power="release", act=silence, takes=Silence),
    Verb(method="GET", path="/v1/audit/events", power="audit", act=events, takes=Events),
    Verb(method="GET", path="/v1/audit/verify", power="audit", act=verify, seconds=LONG),
    Verb(method="GET", path="/v1/why", power="look", act=why, takes=One, seconds=LONG),
    Verb(method="GET", path="/v1/explanation", power="look", act=explanation, takes=One),
    Verb(method="POST", path="/v1/explain", power="look", act=explain, takes=One, seconds=LONG),
    Verb(method="GET", path="/v1/fairness", power="look", act=fairness, takes=People, seconds=LONG),
    Verb(method="GET", path="/v1/impact", power="look", act=impact, takes=Touched, seconds=LONG),
    Verb(method="GET", path="/v1/people", power="look", act=people),
    Verb(method="POST", path="/v1/people/add", power="administer", act=add, takes=Newcomer),
    Verb(method="POST", path="/v1/people/invite", power="administer", act=invite, takes=Guest),
    Verb(method="POST", path="/v1/people/roles", power="administer", act=change, takes=Roles),
    Verb(method="POST", path="/v1/people/remove", power="administer", act=remove, takes=Named),
    Verb(method="POST", path="/v1/token/issue", power="administer", act=issue, takes=Issue),
    Verb(method="POST", path="/v1/token/take", power="join", act=take),
    Verb(method="POST", path="/v1/token/revoke", power="look", act=revoke, takes=Revoke),
)
