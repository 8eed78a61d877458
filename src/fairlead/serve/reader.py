"""Readers: what a gateway knows of one package: how to read a row for it and how to spell its answer."""

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from fairlead.core.artifact import PackageSpec
from fairlead.core.contract import Contract, Scalar
from fairlead.core.encoder import Encoder
from fairlead.core.ref import Ref
from fairlead.errors import Invalid
from fairlead.serve.package import width_out
from fairlead.serve.timely import Timely

__all__ = ["Answer", "Contracts", "Features", "Reader"]

Contracts = dict[tuple[object, object], Contract]
Features = dict[str, Any]
Values = tuple[Scalar, ...]


class Answer(Struct, omit_defaults=True, gc=False):
    """The JSON of one answer, without what goes without saying. `features`: whether the online
    store had answered in time, where one is asked."""

    id: str
    package: str
    fallback: bool = False
    label: Scalar | UnsetType = UNSET
    score: float | UnsetType = UNSET
    value: Scalar | UnsetType = UNSET
    scores: dict[str, float] | UnsetType = UNSET
    logged: bool = True
    features: bool = True


class Reader:
    """One package, compiled. `k`: scores per row; `sticky`: place of the unit's column, or -1.

    Packages that read the same rows share one `contract`, kept in `contracts`: what was read for
    one of them serves the other.
    """

    def __init__(self, ref: Ref, spec: PackageSpec, sticky: str, contracts: "Contracts") -> None:
        """`sticky`: the column that names the unit, or "". Raises Invalid when the encoding reads
        a column that neither request nor views bring."""
        self.ref, self.spec, self.name = ref, spec, str(ref)
        self.k = width_out(spec)
        self.contract = _shared(spec, sticky, contracts)
        names = self.contract.names
        self.sticky = names.index(sticky) if sticky else -1
        self._entities = [(v, names.index(v.entity)) for v in spec.views]
        self._joined = tuple(o for v in spec.views for o in v.outputs)
        self.encoder = _encoder(spec, names + self._joined)

    def join(self, values: Values, online: Timely | None, at: float) -> Features | None:
        """Values of the feature views as of `at` (UTC seconds); None when there are no views.

        An entity that is null has no features. Raises what the online store raises.
        """
        if not self._entities:
            return None
        features: Features = dict.fromkeys(self._joined)
        asked = [(view, e if isinstance(e, str) else str(e))
                 for view, place in self._entities if (e := values[place]) is not None]  # fmt: skip
        if online is not None and asked:
            features.update(online.read(asked, at))
        return features

    def encode(self, values: Values, features: Features | None) -> bytes:
        """The row of the model's matrix. Raises Invalid."""
        if features is None:
            return self.encoder.encode(values)
        return self.encoder.encode(values + tuple(map(features.get, self._joined)))

    def answer(self, prediction: str, scores: Sequence[float], fallback: bool) -> Answer:
        """What the caller is told."""
        spec = self.spec
        if spec.task == "binary":
            label = spec.classes[scores[0] >= spec.threshold]
            return Answer(prediction, self.name, fallback, label, scores[0])
        if spec.task == "regression":
            return Answer(prediction, self.name, fallback, value=scores[0])
        chances = dict(zip(spec.classes, scores, strict=True))
        return Answer(prediction, self.name, fallback, self.label(scores), scores=chances)

    def label(self, scores: Sequence[float]) -> str:
        """The class of one answer; "" for a regression."""
        spec = self.spec
        if spec.task == "binary":
            return spec.classes[scores[0] >= spec.threshold]
        if spec.task == "multiclass":
            return spec.classes[max(range(self.k), key=scores.__getitem__)]
        return ""


def _encoder(spec: PackageSpec, names: tuple[str, ...]) -> Encoder:
    strange = [c.column for c in spec.encoding.columns if c.column not in names]
    if strange:
        raise Invalid(f"the model reads {strange[0]!r}, which no request and no feature view brings",
                      hint="package the model again")  # fmt: skip
    return Encoder(spec.encoding, names)


def _shared(spec: PackageSpec, sticky: str, contracts: Contracts) -> Contract:
    extras = (*(v.entity for v in spec.views), sticky)
    rows = tuple((c.name, c.dtype, c.nullable, c.categories if c.closed else ())
                 for c in spec.contract.columns)  # fmt: skip
    if (rows, extras) not in contracts:
        contracts[rows, extras] = Contract(spec.contract, extras)
    return contracts[rows, extras]
