"""What a project writes down for those who ask: cards, the bill of materials, the technical file."""

from pathlib import Path

from fairlead.core.artifact import Artifact, DatasetSpec
from fairlead.core.bom import bom
from fairlead.core.card import Card
from fairlead.errors import Invalid, Missing
from fairlead.flow.annex import annex
from fairlead.flow.card import Clerk, measured, model_behind, tables_behind
from fairlead.flow.chat import is_chat
from fairlead.flow.fairness import Fairness
from fairlead.project.recalling import Recalling
from fairlead.project.telling import Telling

__all__ = ["Accounting"]

LATELY = "28d"
"""How far back a card looks upon production."""


class Accounting(Telling, Recalling):
    """Verbs that read records and write documents."""

    @property
    def clerk(self) -> Clerk:
        """Writes cards, from what is recorded now."""
        return Clerk(self.records, self.blobs, self.manifest, self.approvals(), self.alerts(), self._lived)

    def _lived(self) -> Fairness | None:
        """How what serves treats groups now; None when nothing serves or no group is named."""
        try:
            return self.live_fairness(LATELY)
        except (Missing, Invalid):
            return None

    def subject(self, text: str) -> Artifact:
        """What a card is about: `text` as people name artifacts, else what serves now, else the
        newest model. Raises Missing, Invalid."""
        if text:
            return self.records.find(text)
        here = self.records.service(self.name)
        if here is not None and here.package is not None:
            return self.records.artifact(here.package)
        models = self.records.artifacts("model", self.name)
        if not models:
            raise Missing(f"{self.name} has no model yet", hint="`fairlead train` makes one")
        return models[-1]

    def card(self, kind: str, text: str) -> Card:
        """A model, data, release or bias card. Raises Missing, Invalid."""
        match kind:
            case "data":
                return self.clerk.dataset(self.records.find(text, "dataset") if text else self.dataset())
            case "release":
                found = self.records.releases(self.name)
                if not text and not found:
                    raise Missing(f"{self.name} has no release yet", hint="`fairlead release start`")
                return self.clerk.release(self.records.release(text) if text else found[-1])
            case "bias":
                return self.clerk.bias(self.subject(text))
        return self.clerk.model(self.subject(text))

    def bom(self, text: str) -> dict[str, object]:
        """The CycloneDX ML-BOM of a model. Raises Invalid for a chat: its provider knows what it is made of."""
        model = model_behind(self.subject(text), self.records)
        if is_chat(model):
            raise Invalid(f"{model.ref.short} is made of what its provider has", hint="ask the provider for its bill")
        lines = self.blobs.get(model.spec.environment).decode()  # type: ignore[union-attr]
        shown = [e for e in measured(model, self.records)[1] if ":" not in e.measure]
        return bom(model, tables_behind(model, self.records), shown, lines, self.manifest.card,
                   self.manifest.data.sensitive)  # fmt: skip

    def technical_file(self, text: str) -> Card:
        """Annex IV, point by point."""
        return annex(self.subject(text), self.clerk, self.manifest, self.records)

    def documents(self, text: str) -> dict[str, Card]:
        """All cards that belong to a model, by file name."""
        model = model_behind(self.subject(text), self.records)
        tables = [t for t in tables_behind(model, self.records) if isinstance(t.spec, DatasetSpec)]
        ids = [r.id for r in self.records.releases(self.name)]
        return {"annex-iv": self.technical_file(text), "model-card": self.clerk.model(model),
                "bias-summary": self.clerk.bias(model),
                **{f"data-card-{i + 1}": self.clerk.dataset(t) for i, t in enumerate(tables)},
                **{f"decision-{i}": self.card("release", i) for i in ids}}  # fmt: skip

    def evidence_into(self, folder: Path) -> int:
        """Write the whole event log with its verifier into `folder`; how many events."""
        return self.export_audit(folder, lambda n: None).checkpoint.seq
