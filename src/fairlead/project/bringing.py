"""Models of other tools: brought in and judged by the gate, or told to them with all that is known."""

import shutil
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import msgspec

from fairlead.adapters.tracking.mlflow import Mlflow
from fairlead.core.artifact import Artifact, ModelSpec, PackageSpec, ancestors
from fairlead.core.decision import Decision
from fairlead.core.mlmodel import Brought, brought, document
from fairlead.errors import Invalid, Missing
from fairlead.flavors import brought as opener
from fairlead.flow import package, train
from fairlead.flow.job import workspace
from fairlead.ports import Tracker
from fairlead.project.exchanging import Exchanging
from fairlead.project.house import Progress, quiet
from fairlead.project.making import Making
from fairlead.settings import quiet_mlflow, tracking_store

__all__ = ["Bringing"]

MOST_PARAM = 6000
"""Letters of a parameter that every tracking store takes."""
MODEL = "the model"
"""The file that is opened, by a name that no import finds."""


class Bringing(Making, Exchanging):
    """Verbs that exchange models with MLflow."""

    tracking = ""
    """Where its runs are; "": as the environment says."""

    @cached_property
    def tracker(self) -> Tracker:
        """Raises Invalid when nobody said where, Missing without mlflow."""
        place = self.tracking or tracking_store()
        if not place:
            raise Invalid("which MLflow?", hint="--tracking URI, or MLFLOW_TRACKING_URI: sqlite:///mlflow.db, http://...")
        quiet_mlflow()
        return Mlflow(place)

    def bring(self, uri: str, on_progress: Progress = quiet) -> tuple[Artifact, Decision]:
        """Make a model of MLflow a model of this project, measured on its held-out rows and judged.

        A job process opens it, and only in a form that runs no code of its own. Raises Invalid for
        other forms, columns or classes, and what `Tracker.fetch` and `flow.train.train` raise.
        """
        self.caller("make")
        with workspace(self.state / "jobs") as folder, workspace(self.state / "jobs") as root:
            on_progress(f"fetching {uri}")
            where, said = self.tracker.fetch(_address(uri), folder)
            found = brought(said)
            if not (where / found.file).is_file():
                raise Invalid(f"the MLmodel file names {found.file!r:.80}, which is not there", hint="log the model again")
            shutil.copyfile(where / found.file, root / MODEL)
            model = self._trained(found, root, uri, on_progress)
        return model, self.gate(model.ref, on_progress)

    def tell(self, made: Artifact, experiment: str) -> tuple[str, str]:
        """Write a package to an experiment of MLflow: parameters, metrics, lineage and, in ONNX, a model
        that MLflow loads. Returns the ids of the run and of the model ("" for another form)."""
        self.by("make", "release")
        spec = made.spec
        if not isinstance(spec, PackageSpec):
            raise Invalid(f"{made.ref.short} is not a package", hint="`fairlead package` makes one")
        lineage = tuple(ancestors(made.ref, self.records.artifact))
        run = self.records.run(made.run) if made.run else None
        metrics = {e.measure: e.value for e in (run.evidence if run else ()) if not e.slice and e.against is None}
        params = {k: str(v)[:MOST_PARAM] for k, v in (run.params if run else {}).items()}
        with workspace(self.state / "jobs") as folder:
            laid = shutil.copytree(package.restore(made, self.state / "packages", self.blobs), folder / "package")
            return self.tracker.publish(
                experiment, made.ref.name, params=params, metrics=metrics, tags=self._tags(made, lineage),
                folder=laid, document=document(spec) if spec.flavor == "onnx" else None,
            )  # fmt: skip

    def _trained(self, found: Brought, root: Path, uri: str, say: Progress) -> Artifact:
        """The training whose code only opens the file in `root`. Nothing else of the model lies there: code
        imports what lies beside it."""
        code, section = Path(opener.__file__), self.manifest.train
        shutil.copyfile(code, root / code.name)
        data = (root / MODEL).read_bytes()
        facts = {"form": found.form, "file": MODEL, "columns": "\n".join(found.columns), "mlflow": uri,
                 "mlflow.run": found.run, "mlflow.model": found.model, "sha256": sha256(data).hexdigest()}  # fmt: skip
        table = self.records.artifacts("dataset", self.name)[-1:] or [self.snapshot()[0]]
        return train.train(
            table[0], self.manifest.data, msgspec.structs.replace(section, code=code.name, params=facts, serve="", warm_start=False),
            name=self.name, root=root, records=self.records, blobs=self.blobs, compute=self.compute, clock=self.clock,
            jobs=self.state / "jobs", actor=self.actor, columns=found.columns, unseen=section.unseen, on_progress=say,
        )  # fmt: skip

    def _tags(self, made: Artifact, lineage: tuple[Artifact, ...]) -> dict[str, str]:
        """Where it comes from, and what the gate said."""
        model = next((a for a in lineage if isinstance(a.spec, ModelSpec)), None)
        decisions = self.records.decisions(model.ref) if model else []
        verdict = {"fairlead.gate": "passed" if decisions[-1].proceed else "refused"} if decisions else {}
        refs = {f"fairlead.{a.ref.kind}": str(a.ref) for a in reversed(lineage)}
        code = self.records.run(made.run).code if made.run else ""
        return {"fairlead.service": self.name, **refs, **verdict, **({"fairlead.code": code} if code else {})}


def _address(uri: str) -> str:
    """As MLflow spells it; a bare run means its model called "model"."""
    if len(uri) == 32 and all(c in "0123456789abcdef" for c in uri):
        return f"runs:/{uri}/model"
    if not uri.startswith(("runs:/", "models:/")) and not Path(uri).is_dir():
        raise Missing(f"no model {uri!r}", hint="mlflow:models:/NAME/VERSION, mlflow:runs:/RUN/NAME, or a run's id")
    return uri
