"""A project's packages as container images: built here, pushed, pulled, verified."""

import sys
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import fairlead
from fairlead.adapters.images import wheels
from fairlead.adapters.images.bytecode import compiled, standard
from fairlead.adapters.images.layout import Layout
from fairlead.adapters.keys.local import verify
from fairlead.adapters.registry.client import Registry
from fairlead.core.artifact import (
    Artifact,
    DatasetSpec,
    FeaturesSpec,
    ModelSpec,
    PackageSpec,
    ancestors,
)
from fairlead.core.bom import bom
from fairlead.core.oci import Descriptor, Place
from fairlead.errors import Invalid
from fairlead.flow import arrival, image, origin, package
from fairlead.flow.parcel import promoted
from fairlead.ports import Entry, Images
from fairlead.project.exchanging import Exchanging
from fairlead.project.house import Progress, quiet
from fairlead.settings import registry_authorities, registry_logins

__all__ = ["Imaging", "place_of"]

MORE = {"onnx": (), "skops": ("scikit-learn", "skops"), "lightgbm": ("lightgbm",), "xgboost": ("xgboost-cpu",)}
"""What a package of a flavor needs beside what every gateway does."""
APP = "opt/fairlead/fairlead"
SERVING = ("*.py", "core/**/*.py", "serve/**/*.py", "flavors/**/*.py", "adapters/**/*.py")
"""What of Fairlead goes into an image: no command line, no project, nothing that trains."""


class Imaging(Exchanging):
    """Verbs of images. All are built in one layout, `.fairlead/images`, whose layers are kept."""

    @cached_property
    def bench(self) -> Layout:
        """Where images are built."""
        return Layout(self.state / "images")

    def build_image(
        self, made: Artifact, base: str = "", architecture: str = "amd64", python: str = "",
        on_progress: Progress = quiet,
    ) -> image.Built:  # fmt: skip
        """Build the image of a package upon `base`: a layout, a root file system (.tar) or oci://.

        Without a base the image holds the package only, to be mounted.
        """
        folder = package.restore(made, self.state / "packages", self.blobs)
        runtime = None
        if base:
            runtime = self._runtime(made, base, architecture, python or _version(), on_progress)
        on_progress("writing the layers")
        built = image.build(made, folder, self.bench, runtime, architecture=architecture)
        origin.vouch(self.bench, built, self._said(made, built), self.signer)
        return built

    def trusted(self, key: str = "") -> dict[str, str]:
        """Whose images are taken: `key` alone where one is given (hex), else those of the
        environments that are accepted, and this one's."""
        section = self.manifest.environment
        return {"": key} if key else {**section.accepts, section.name: self.signer.key}

    def verify_image(self, source: str, key: str = "") -> origin.Origin:
        """Who speaks for an image, and what they say. Raises Invalid or Corrupt."""
        place, reference = place_of(source, "latest")
        return origin.demand(place, reference, self.trusted(key), verify)

    def pull_image(self, source: str, target: Path, key: str = "") -> origin.Origin:
        """Lay the package of an image that somebody trusted signed into the new folder `target`.

        Raises Invalid or Corrupt before anything of the package is decoded.
        """
        place, reference = place_of(source, "latest")
        found = origin.demand(place, reference, self.trusted(key), verify)
        image.unpack(place, image.weights_of(place, found.image.digest), found.package, target)
        return found

    def take_image(
        self, source: str, key: str = "", on_progress: Progress = quiet
    ) -> tuple[Artifact, origin.Origin, str]:
        """Make the package of an image that somebody trusted signed one of this project; with its
        origin and its proof. Raises what `flow.arrival.arrive` raises."""
        place, reference = place_of(source, "latest")
        section = self.manifest.environment
        made, found, proof = arrival.arrive(
            place, reference, trusted=self.trusted(key), promoted=bool(section.accepts) and section.promoted, verify=verify,
            records=self.records, blobs=self.blobs, compute=self.compute, clock=self.clock, jobs=self.state / "jobs",
            actor=self.by("release"), on_progress=on_progress,
        )  # fmt: skip
        package.restore(made, self.state / "packages", self.blobs)
        return made, found, proof

    def _said(self, made: Artifact, built: image.Built) -> dict[str, dict[str, Any]]:
        """All that is known of a package, by kind of predicate."""
        came = arrival.image_of(made, self.records)[0]
        if came and not made.parents:
            raise Invalid(f"{made.ref.short} came in image {came[:19]}, and only its builder can vouch for it",
                          hint="copy that image on, with all that speaks of it (skopeo copy --all)")  # fmt: skip
        lineage = tuple(ancestors(made.ref, self.records.artifact))
        release = promoted(made.ref, self.records)
        model = next(a for a in lineage if isinstance(a.spec, ModelSpec))
        run = self.records.run(model.run) if model.run else None
        tables = [a for a in lineage if isinstance(a.spec, DatasetSpec | FeaturesSpec)]
        kept = getattr(model.spec, "environment", "")
        parts = bom(model, tables, run.evidence if run else (), self.blobs.get(kept).decode() if kept else "",
                    self.manifest.card, self.manifest.data.sensitive)  # fmt: skip
        return {
            origin.SIGNED: {}, origin.BOM: parts, origin.GATE: origin.gated(self.records.decisions(model.ref)),
            origin.PROVENANCE: origin.provenance(built, self.manifest.environment.name, run, lineage),
            **({origin.PROMOTED: {"release": release.id, "at": release.ended_at}} if release else {}),
        }  # fmt: skip

    def send_image(self, built: image.Built, to: str, on_progress: Progress = quiet, base: str = "") -> Descriptor:
        """Copy an image, and all that speaks of it, to a layout or a registry; layers of `base` are
        mounted where it lies in the same one."""
        place, tag = place_of(to, built.tag, base)
        return image.copy(self.bench, place, built.index.digest, tag, on_progress)

    def _runtime(self, made: Artifact, base: str, architecture: str, python: str, say: Progress) -> image.Runtime:
        say("reading the base")
        if base.endswith(".tar"):
            below = image.base_of(self.bench, image.root(self.bench, Path(base), architecture), architecture)
        else:
            place, reference = place_of(base, "latest")
            below = image.base_of(place, reference, architecture)
            image.copy_blobs(place, self.bench, below[1].blobs, say)
        say("choosing the wheels")
        chosen = self._wheels(made, architecture, python)
        return image.Runtime(base=below, python=python, lock=wheels.lock(chosen), rules=wheels.RULES + below[0].digest, app=_own(),
                             compiled=lambda files, version: compiled(files, self.state / "wheels", version),
                             libraries=lambda: chain(
                                 standard(map(self.bench.open, below[1].layers or ()), python),
                                 wheels.content(chosen, "opt/fairlead")))  # fmt: skip

    def write_recipe(self, made: Artifact, target: Path, architecture: str = "amd64", python: str = "") -> None:
        """Write a Dockerfile for a package, with all it copies, into the new folder `target`."""
        folder, version = package.restore(made, self.state / "packages", self.blobs), python or _version()
        chosen = wheels.lock(self._wheels(made, architecture, version))
        image.recipe(folder, chosen, _own(), version, target)

    def _wheels(self, made: Artifact, architecture: str, python: str) -> list[Path]:
        spec = made.spec
        assert isinstance(spec, PackageSpec)
        if spec.flavor not in MORE:
            raise Invalid(f"no image runs a package of flavor {spec.flavor!r} yet",
                          hint="build it without --base, and mount it into a server of yours")  # fmt: skip
        return wheels.download(wheels.needs("serve", *MORE[spec.flavor]), self._known(spec), python=python,
                               architecture=architecture, cache=self.state / "wheels")  # fmt: skip

    def _known(self, spec: PackageSpec) -> list[str]:
        """The versions the model was trained and proven with."""
        lines = self.blobs.get(spec.environment).decode().splitlines() if spec.environment else []
        return [line for line in lines if line.partition("==")[0] not in ("python", "platform", "fairlead")]


def place_of(text: str, tag: str, near: str = "") -> tuple[Images, str]:
    """A place that keeps images, and which of them is meant: oci://registry/name:tag, or the folder
    of a layout (then `tag`). `near`: another image, whose blobs need not be sent again where it lies
    in the same registry. Raises Invalid."""
    if not text.startswith("oci://"):
        if "://" in text:
            raise Invalid(f"not a place for images: {text!r}", hint="a folder, or oci://registry/name:tag")
        return Layout(Path(text)), tag
    place = Place.parse(text)
    beside = Place.parse(near) if near.startswith("oci://") else None
    same = beside.name if beside is not None and beside.host == place.host and beside.name != place.name else ""
    return Registry(place, registry_logins(), same, registry_authorities(place.host)), place.reference


def _own() -> list[Entry]:
    """Fairlead itself, as it is installed here: the floors that serve."""
    root = Path(fairlead.__file__).parent
    files = (p for room in SERVING for p in root.glob(room) if p.is_file())
    return [(f"{APP}/{p.relative_to(root).as_posix()}", p) for p in sorted(files)]


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
