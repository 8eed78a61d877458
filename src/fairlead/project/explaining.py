"""What a project can say of how its models treat people, and why they answered as they did."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fairlead.core.artifact import PackageSpec
from fairlead.core.attribution import Attribution
from fairlead.core.prediction import Prediction
from fairlead.core.ref import Ref
from fairlead.core.veil import hidden
from fairlead.errors import FairleadError, Missing
from fairlead.flow.attribution import ROWS, measure, newest
from fairlead.flow.explain import PREFIX, Explanation, Told, explain, explain_all, give_up, told
from fairlead.flow.fairness import Fairness, assess, held_out, sensitive
from fairlead.flow.package import restore
from fairlead.project.living import Living

__all__ = ["Explaining"]

HOUR = 3600.0


class Explaining(Living):
    """Verbs about people: how groups of them fare, and what each answer rests on."""

    def fairness(self, model: Ref) -> Fairness:
        """How a model treats groups of held-out people, as its newest gate measured it.

        Raises Missing when it was never judged, Invalid when no column is sensitive.
        """
        sensitive(self.manifest)
        facts = held_out(self.records.artifact(model), self.records)
        return assess(model, facts, self.manifest)

    def explain(self, prediction_id: str) -> Explanation:
        """What each column did to an answer: computed once, stored under the id of the prediction.

        Raises Missing when there is no such prediction, Invalid when the log lacks what was read.
        """
        asked = self.log.find(prediction_id)[0]
        return explain(asked, *self._opened(asked.package), **self._doors())

    def explained(self, answer: Prediction) -> Told:
        """What is known of the explanation of an answer, computing nothing."""
        return told(answer, self.records, self.blobs)

    def unexplained(self, most: int) -> list[str]:
        """Ids of answers whose callers asked for an explanation and were told nothing yet, each once."""
        queue = self.observer().wanted
        ids = dict.fromkeys(queue.popleft() for _ in range(min(most, len(queue))))
        return [i for i in ids if not any(self.records.events(subject=PREFIX + i))]

    def explain_all(self, ids: Iterable[str]) -> int:
        """Explain answers whose callers asked for it, those of one package in one process; how many
        were explained. Of the others it is written down why not."""
        groups: dict[Ref, list[Prediction]] = {}
        for one in ids:
            with suppress(Missing):  # erased meanwhile
                found = self.log.find(one)[0]
                groups.setdefault(found.package, []).append(found)
        return sum(self._explain(ref, asked) for ref, asked in groups.items())

    def attribution_span(self) -> float:
        """Seconds that the monitors of attribution look back on, an hour at least; 0 without one."""
        windows = [m.window for m in self.monitors() if m.check.measure.partition(":")[0] == "attribution"]
        return max(min(windows), HOUR) if windows else 0.0

    def attribution_due(self) -> bool:
        """Whether a monitor waits for a measurement of what serves now."""
        here, span = self.records.service(self.name), self.attribution_span()
        if here is None or here.package is None or not span:
            return False
        seen = newest(here.package, self.records)
        return seen is None or not 0 <= self.clock.now() - seen.until < span

    def measure_attribution(self) -> Attribution | None:
        """Explain a sample of what the serving package answered since the last time; None when that is
        not due, or too few answers can be explained. Raises Invalid when they cannot."""
        here, until = self.records.service(self.name), self.clock.now()
        if here is None or here.package is None or not self.attribution_due():
            return None
        span = until - self.attribution_span(), until
        asked = self.log.sample(here.package, *span, ROWS)
        return measure(self.records.artifact(here.package), asked, self._opened(here.package)[1], span,
                       known_at=self.manifest.data.known_at, **self._doors())  # fmt: skip

    def _explain(self, ref: Ref, asked: Sequence[Prediction]) -> int:
        try:
            spec, folder = self._opened(ref)
        except FairleadError as error:
            for one in asked:
                give_up(one, str(error), self.records, self.clock, self.caller().name)
            return 0
        return explain_all(asked, spec, folder, **self._doors())

    def _opened(self, ref: Ref) -> tuple[PackageSpec, Path]:
        """What a package says of itself, and the folder it lies in."""
        package = self.records.artifact(ref)
        assert isinstance(package.spec, PackageSpec), "the prediction log names packages"
        return package.spec, restore(package, self.state / "packages", self.blobs)

    def _doors(self) -> dict[str, Any]:
        return {"hidden": hidden(self.manifest.log), "records": self.records, "blobs": self.blobs,
                "compute": self.compute, "clock": self.clock, "jobs": self.state / "jobs",
                "actor": self.caller().name}  # fmt: skip
