"""Artifacts: what the system makes and never changes, and how one descends from another."""

from collections.abc import Callable, Iterator
from typing import Literal

from msgspec import Struct

from fairlead.core.encoding import Encoding
from fairlead.core.feature import FeatureView
from fairlead.core.ref import Ref, digest
from fairlead.core.schema import Schema

__all__ = ["Artifact", "DatasetSpec", "FeaturesSpec", "Flavor", "ModelSpec", "OWN_CODE", "PackageSpec", "Part",
           "Spec", "Split", "Task", "ancestors", "name_of"]  # fmt: skip

Task = Literal["binary", "multiclass", "regression", "chat"]
Flavor = Literal["onnx", "skops", "lightgbm", "xgboost", "python", "openai"]
OWN_CODE: frozenset[Flavor] = frozenset({"python"})
"""Flavors whose packages bring source that is run: only where somebody trusts it."""


class Part(Struct, frozen=True):
    """One content-addressed Parquet file of a table: blob digest (SHA-256), rows, bytes.

    `content`: SHA-256 of the values, however the file spells them; "" when it was not taken.
    """

    digest: str
    rows: int
    size: int
    content: str = ""


class DatasetSpec(Struct, frozen=True, tag="dataset", kw_only=True):
    """A table: parts in order (a later version appends parts), its contract and its profile blob."""

    parts: tuple[Part, ...]
    contract: Schema
    profile: str = ""

    @property
    def rows(self) -> int:
        return sum(p.rows for p in self.parts)


class FeaturesSpec(Struct, frozen=True, tag="features", kw_only=True):
    """A dataset joined point-in-time with views: same rows, same order, more columns."""

    parts: tuple[Part, ...]
    schema: Schema
    views: tuple[FeatureView, ...] = ()


class Split(Struct, frozen=True, kw_only=True):
    """Which rows of its table a model learnt from: since <= time < until (0: no bound), those with
    a target, without the newest share `test` (with no time: a share that `seed` draws)."""

    since: float = 0.0
    until: float = 0.0
    test: float = 0.2
    seed: int = 0


class ModelSpec(Struct, frozen=True, tag="model", kw_only=True):
    """A trained model in a safe format.

    `files`: name -> blob digest; for flavor "onnx" the file is "model.onnx" with one input
    ``X`` float32 [rows, encoding.width] and one output ``scores`` float32 [rows, k]: k = 1 for
    binary (probability of classes[1]) and regression, len(classes) for multiclass.
    Beside it lie "samples.json" (held-out rows with the answers of the estimator itself) and
    "profile.msgpack" (TableProfile of the training rows).
    `inputs`: every column the model reads, request columns first, then feature-view columns.
    """

    flavor: Flavor
    task: Task
    classes: tuple[str, ...] = ()
    inputs: Schema
    encoding: Encoding
    views: tuple[FeatureView, ...] = ()
    files: dict[str, str]
    params: dict[str, str | int | float | bool | None] = {}
    split: Split = Split()
    environment: str = ""


class PackageSpec(Struct, frozen=True, tag="package", kw_only=True):
    """All a replica needs to answer, and all a rollback restores: the whole decision.

    `contract`: the columns a request carries (no target, no feature-view columns).
    `threshold`: score >= threshold means classes[1] (binary only).
    `files`: name -> blob digest: the model's files plus "samples.json" (requests with expected
    answers, proven at packaging time).
    """

    model: Ref
    flavor: Flavor
    task: Task
    classes: tuple[str, ...] = ()
    contract: Schema
    encoding: Encoding
    views: tuple[FeatureView, ...] = ()
    threshold: float = 0.5
    files: dict[str, str]
    environment: str = ""


Spec = DatasetSpec | FeaturesSpec | ModelSpec | PackageSpec


class Artifact(Struct, frozen=True, kw_only=True):
    """A dataset, a feature set, a model or a package: one record for all four.

    The registry, lineage, audit, signing and garbage collection are written
    once because only `spec` differs between kinds. `ref.digest` is the digest of `spec`.
    """

    ref: Ref
    spec: Spec
    parents: tuple[Ref, ...] = ()
    run: str = ""
    created_at: float


def name_of(name: str, spec: Spec) -> Ref:
    """The reference of a thing with this spec: same content, same name, same Ref."""
    kind: Literal["dataset", "features", "model", "package"]
    match spec:
        case DatasetSpec():
            kind = "dataset"
        case FeaturesSpec():
            kind = "features"
        case ModelSpec():
            kind = "model"
        case PackageSpec():
            kind = "package"
    return Ref(kind, name, digest(spec))


def ancestors(ref: Ref, fetch: Callable[[Ref], Artifact]) -> Iterator[Artifact]:
    """Walk lineage from `ref` (included) to its roots, each artifact once."""
    seen: set[Ref] = set()
    todo = [ref]
    while todo:
        here = todo.pop()
        if here in seen:
            continue
        seen.add(here)
        artifact = fetch(here)
        yield artifact
        todo.extend(artifact.parents)
