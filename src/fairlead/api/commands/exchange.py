"""The commands between environments: export and import."""

from pathlib import Path

from rich.console import Group
from rich.text import Text

from fairlead.api.border import REFUSED
from fairlead.api.commands.image import key_in
from fairlead.api.commands.lab import model_view, newest
from fairlead.api.console import emit, next_commands, progress
from fairlead.api.present.figures import name, stamp
from fairlead.api.present.verdicts import decision_panel
from fairlead.api.session import opened
from fairlead.errors import Invalid
from fairlead.flow.parcel import Spoken

__all__ = ["send", "take"]

MLFLOW = "mlflow:"


def send(given: Path | None, package: str, target: str, tracking: str, *, as_json: bool) -> None:
    """Write a parcel, or a run of MLflow."""
    if target.startswith(MLFLOW):
        return _tell(given, package, target.removeprefix(MLFLOW), tracking, as_json=as_json)
    _send(given, package, Path(target), as_json=as_json)


def _tell(given: Path | None, package: str, experiment: str, tracking: str, *, as_json: bool) -> None:
    with opened(given) as project, progress("logging", quiet=as_json):
        project.tracking = tracking
        made = newest(project, "package", package)
        run, model = project.tell(made, experiment or project.name)
    text = Text.assemble(("logged", "bold green"), "  ", name(made.ref), f" as run {run}\n", ("model  ", "dim"),
                         f"models:/{model}" if model else "its files only: MLflow loads none of this form safely")  # fmt: skip
    emit({"package": made.ref, "run": run, "model": model}, text, as_json=as_json)


def _send(given: Path | None, package: str, target: Path, *, as_json: bool) -> None:
    with opened(given) as project, progress("packing", quiet=as_json):
        made = newest(project, "package", package)
        spoken, key = project.send(made, target), project.signer.key
    text = Text.assemble(("packed", "bold green"), "  ", name(made.ref), f" into {target}, {_history(spoken)}\n",
                         ("signed by key ", "dim"), key)  # fmt: skip
    emit({"spoken": spoken, "key": key}, text, as_json=as_json)


def take(given: Path | None, source: str, key: Path | None, tracking: str, *, as_json: bool) -> int:
    """Take in what `source` is: a model of MLflow (1 when the gate refuses it), an image, or a parcel."""
    image = source.startswith("oci://") or (Path(source) / "oci-layout").is_file()
    if key is not None and not image:
        raise Invalid("--key speaks of images", hint="environment.accepts names the keys whose parcels are taken")
    if source.startswith(MLFLOW):
        return _bring(given, source.removeprefix(MLFLOW), tracking, as_json=as_json)
    if image:
        _arrive(given, source, key, as_json=as_json)
    else:
        _receive(given, Path(source), as_json=as_json)
    return 0


def _bring(given: Path | None, uri: str, tracking: str, *, as_json: bool) -> int:
    with opened(given) as project, progress("importing", quiet=as_json) as say:
        project.tracking = tracking
        model, decision = project.bring(uri, say)
        run = project.records.run(model.run)
    emit({"model": model.ref, "gate": decision}, Group(model_view(model, run), decision_panel(decision)), as_json=as_json)
    if not decision.proceed:
        return REFUSED
    if not as_json:
        next_commands(f"fairlead package {model.ref.digest[:12]}")
    return 0


def _arrive(given: Path | None, source: str, key: Path | None, *, as_json: bool) -> None:
    with opened(given) as project, progress("importing", quiet=as_json) as say:
        made, found, proof = project.take_image(source, key_in(key), say)
    text = Text.assemble(("received", "bold green"), "  ", name(made.ref), f" signed by {found.signer or 'the key given'}\n",
                         ("image  ", "dim"), found.image.digest, ("\nproof  ", "dim"), proof)  # fmt: skip
    emit({"package": made.ref, "image": found.image.digest, "signer": found.signer, "proof": proof}, text, as_json=as_json)
    if not as_json:
        next_commands(f"fairlead release start {made.ref.digest[:12]}")


def _receive(given: Path | None, source: Path, *, as_json: bool) -> None:
    with opened(given) as project, progress("unpacking", quiet=as_json) as say:
        made, spoken = project.receive(source, say)
    emit({"package": made.ref, "spoken": spoken},
         Text.assemble(("received", "bold green"), "  ", name(made.ref), f" from {spoken.environment}, {_history(spoken)}"),
         as_json=as_json)  # fmt: skip
    if not as_json:
        next_commands(f"fairlead release start {made.ref.digest[:12]}")


def _history(spoken: Spoken) -> str:
    if not spoken.released:
        return "not promoted there"
    return f"promoted there by release {spoken.released} at {stamp(spoken.promoted_at)}"
