"""The command of continuous integration: a review, its exit status, and the files others read."""

from pathlib import Path
from shlex import quote

import msgspec
from msgspec import Struct

from fairlead.api.border import REFUSED
from fairlead.api.console import console, emit, progress
from fairlead.api.folder import find, repository, shipped
from fairlead.api.present.review import VERDICTS, markdown, review_junit, review_view, sarif
from fairlead.api.session import opened
from fairlead.core.check import Outcome
from fairlead.core.review import Finding, Review
from fairlead.errors import Conflict, FairleadError, Invalid
from fairlead.settings import MANIFEST, workflow

__all__ = ["Files", "review", "workflow_file"]

PLACES = {"github": ".github/workflows/fairlead.yml", "gitlab": ".gitlab-ci.yml"}
STATUS = {Outcome.PASS: 0, Outcome.FAIL: REFUSED, Outcome.UNKNOWN: 2}


class Files(Struct, frozen=True):
    """Where reports are wanted; None: not."""

    junit: Path | None = None
    sarif: Path | None = None
    markdown: Path | None = None


def review(given: Path | None, base: str, files: Files, *, as_json: bool) -> int:
    """Judge a change: 0 passed, 1 refused, 2 could not decide. The reports are written in any case."""
    prefix = ""
    try:
        prefix = _prefix(find(given))
        with opened(given) as project, progress("reviewing", quiet=as_json) as say:
            found = project.examine(base, say)
    except FairleadError as error:
        found = _undecided(error)
    _write(found, files, prefix)
    value = {**msgspec.structs.asdict(found), "verdict": VERDICTS[found.outcome]}
    emit(value, review_view(found), as_json=as_json)
    return STATUS[found.outcome]


def workflow_file(system: str, folder: Path, *, as_json: bool) -> None:
    """Write the workflow that judges every pull request of the project in `folder`.

    Raises Invalid for another system, Conflict when there is a file already.
    """
    if system not in PLACES:
        raise Invalid(f"no workflow for {system!r}", hint=f"--ci {' or '.join(PLACES)}")
    text, folder = (shipped("ci") / f"{system}.yml").read_text(encoding="utf-8"), folder.resolve()
    target = repository(folder) / PLACES[system]
    if target.exists():
        raise Conflict(f"{target} exists already", hint=f"add the job of {shipped('ci') / f'{system}.yml'} to it")
    if prefix := _prefix(folder):
        text = text.replace("fairlead ci ", f"fairlead ci -C {quote(prefix)} ").replace(" .fairlead", f" {prefix}.fairlead")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    if not as_json:
        console().print(f"wrote    {target}")


def _write(found: Review, files: Files, prefix: str) -> None:
    texts = {files.junit: review_junit(found, prefix), files.sarif: sarif(found, prefix), files.markdown: markdown(found)}
    for path, text in texts.items():
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            except OSError as error:
                raise Invalid(f"no report in {path}: {error.strerror}", hint="name a file that can be written") from None
    summary, output = workflow()
    if summary is not None:
        _append(summary, markdown(found))
    if output is not None:
        _append(output, f"verdict={VERDICTS[found.outcome]}\nmodel={found.model or ''}\n"
                        f"changed={' '.join(dict.fromkeys(c.kind for c in found.changed))}\n")  # fmt: skip


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _undecided(error: FairleadError) -> Review:
    """What kept anybody from deciding, as a review."""
    text = f"{error}\n{error.hint}" if error.hint else str(error)
    line = next((int(w) for a, w in zip(text.split(), text.split()[1:], strict=False) if a == "line" and w.isdigit()), 1)
    name = "fairlead.yaml can be read" if isinstance(error, Invalid) and MANIFEST in str(error) else "the change can be judged"
    return Review(service="", findings=(Finding(rule="undecided", name=name, outcome=Outcome.UNKNOWN, text=text, line=line),))


def _prefix(folder: Path) -> str:
    """The project's folder within its repository, as reports for it name files; "" at its top."""
    inner = folder.relative_to(repository(folder)).as_posix()
    return "" if inner == "." else f"{inner}/"
