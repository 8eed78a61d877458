"""A pull request beside what it changes: only what changed is done again, then the gate decides."""

import ast
import re
from pathlib import Path

from msgspec.structs import replace

from fairlead.adapters import manifest as manifests
from fairlead.adapters.revisions.git import GitRevisions
from fairlead.core.artifact import Artifact, ModelSpec, ancestors
from fairlead.core.check import Outcome
from fairlead.core.manifest import Manifest
from fairlead.core.review import Changed, Finding, Review, finding, sorted_out, sources
from fairlead.errors import Invalid, Missing
from fairlead.flow import gate, train
from fairlead.flow.job import workspace
from fairlead.project.house import Progress, quiet
from fairlead.project.making import Making
from fairlead.settings import MANIFEST

__all__ = ["Reviewing"]

ROW = re.compile(r" in row ([\d,]+) ")
FRAME = re.compile(r'File "([^"]+)", line (\d+)')
TABLES = (".csv", ".tsv", ".txt")
"""Files in which row n of a table stands on line n + 1."""


class Reviewing(Making):
    """The verb of continuous integration."""

    def examine(self, base: str = "", on_progress: Progress = quiet) -> Review:
        """Judge the work tree against the commit at which it left `base`, or, without one, against
        the model that serves (or else passed the gate last).

        A change of nothing that the model depends on is no work. Refusals are findings; raises
        Invalid for a base that is none, and what keeps anybody from deciding.
        """
        if not base:
            return self._review(Review(service=self.name, base="what was made here before"), self._last(), on_progress)
        history = GitRevisions(self.root)
        commit = history.base(base)
        blank = Review(service=self.name, base=f"{base} at {commit[:12]}")
        with workspace(self.state / "jobs") as folder:
            history.lay(commit, folder)
            if not (folder / MANIFEST).is_file():
                return self._review(blank, None, on_progress)
            before = manifests.load(folder / MANIFEST)
            blank = replace(blank, changed=sorted_out(history.changed(commit), before, self.manifest))
            if not blank.changed:
                return blank
            try:
                return self._review(*self._baseline(folder, before, blank, on_progress), on_progress)
            finally:
                self._before = None

    def _baseline(
        self, folder: Path, manifest: Manifest, blank: Review, say: Progress
    ) -> tuple[Review, Artifact | None]:  # fmt: skip
        """The model of the base, made anew unless it is known; None, and a note, when it cannot be."""
        for source in sources(manifest):
            if not (folder / source).exists():  # kept out of git: the same for both
                _borrow(folder / source, self.root / source, folder)
        beside = Reviewing(folder, manifest, records=self.records, blobs=self.blobs, online=self._open_online,
                           log=self.log, router=self.router, clock=self.clock, compute=self.compute,
                           actor=self._login, token=self._token, unattended=self._unattended)  # fmt: skip
        beside._before = {}
        say(f"the model of {blank.base}")
        try:
            table = beside._table()
            tables = [a for a in ancestors(table.ref, self.records.artifact) if a.ref.kind == "dataset"]
            self._before = {a.ref.name: [a] for a in reversed(tables)}
            return blank, beside._model(table, say)
        except (Invalid, Missing) as error:
            note = Finding(rule="base", name="a model of the base", outcome=Outcome.UNKNOWN, blocks=False,
                           text=f"there is none to compare with: {error}")  # fmt: skip
            return replace(blank, findings=(note,)), None

    def _review(self, begun: Review, baseline: Artifact | None, say: Progress) -> Review:
        """Commit, train and judge the work tree; what goes wrong on the way is a finding."""
        section, code = self.manifest.data, self.manifest.train.code
        try:
            table = self._table()
        except Invalid as error:
            return _broken(begun, "data", "the table keeps its contract", section.source, _line(section.source, error), error)
        try:
            model = self._model(table, say)
        except Invalid as error:
            return _broken(begun, "training", "the model is trained", *self._blamed(str(error)), error)
        changed = begun.changed or self._moved(model, baseline)
        try:
            decision = self._judge(model.ref, baseline if baseline and baseline.ref != model.ref else None, say)
        except Invalid as error:
            return _broken(begun, "gate", "the model can be judged", code, 1, error)
        lines, function = manifests.lines(self.root / MANIFEST), _function(self.root / code)
        found = tuple(finding(v, changed, self.manifest, lines, function) for v in decision.because)
        return replace(begun, changed=changed, model=model.ref, baseline=baseline and baseline.ref,
                       findings=(*begun.findings, *found))  # fmt: skip

    def _blamed(self, text: str) -> tuple[str, int]:
        """The innermost place within the project that a traceback names: (file, line)."""
        root = self.root.resolve()
        own = [(Path(file).relative_to(root).as_posix(), int(line)) for file, line in FRAME.findall(text)
               if Path(file).is_relative_to(root)]  # fmt: skip
        return own[-1] if own else (self.manifest.train.code, 1)

    def _table(self) -> Artifact:
        """The table of the manifest, with its features."""
        return self.materialize(self.snapshot()[0])

    def _model(self, table: Artifact, say: Progress) -> Artifact:
        """The model that this table and this code make: known, or trained now."""
        section = self.manifest.train
        known = train.trained(table, self.manifest.data, section, root=self.root, records=self.records,
                              unseen=section.unseen, last=gate.baseline_of(self.records, self.name))  # fmt: skip
        return known or self.train(dataset=table.ref, on_progress=say)

    def _last(self) -> Artifact | None:
        """What serves, or else the newest model that passed the gate."""
        serving = gate.baseline_of(self.records, self.name)
        models = reversed(self.records.artifacts("model", self.name))
        return serving or next((m for m in models if any(d.proceed for d in self.records.decisions(m.ref)[-1:])), None)

    def _moved(self, model: Artifact, baseline: Artifact | None) -> tuple[Changed, ...]:
        """What two models were not both made of, by their records."""
        if baseline is None or not (model.run and baseline.run):
            return ()
        now, then = self.records.run(model.run), self.records.run(baseline.run)
        assert isinstance(model.spec, ModelSpec)
        assert isinstance(baseline.spec, ModelSpec)
        found = [Changed("data", self.manifest.data.source)] if now.inputs[:1] != then.inputs[:1] else []
        if now.code != then.code:
            found.append(Changed("code", self.manifest.train.code))
        found += [Changed("code", name) for name in train.moved(then, self.root)]
        if (now.params, now.seed, model.spec.split) != (then.params, then.seed, baseline.spec.split):
            found.append(Changed("manifest", "train"))
        return tuple(sorted(found))


def _borrow(path: Path, ours: Path, folder: Path) -> None:
    if not path.resolve().is_relative_to(folder):
        raise Invalid(f"{path.name} lies outside the project", hint="keep data.source beneath fairlead.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(ours.resolve())


def _broken(begun: Review, rule: str, name: str, file: str, line: int, error: Invalid) -> Review:
    """What the change broke is its own fault: a refusal, at the line that is to blame."""
    fault = Finding(rule=rule, name=name, outcome=Outcome.FAIL, text=str(error), file=file, line=line)
    return replace(begun, findings=(*begun.findings, fault))


def _line(source: str, error: Invalid) -> int:
    """The line of the first row a contract complains of; 1 where lines are no rows."""
    row = ROW.search(str(error)) if Path(source).suffix in TABLES else None
    return int(row[1].replace(",", "")) + 1 if row else 1


def _function(path: Path) -> int:
    """The line on which ``def train`` stands; 1 when it is not found."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return 1
    return next((n.lineno for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "train"), 1)
