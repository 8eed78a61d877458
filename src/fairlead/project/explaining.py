"""What a project can say of how its models treat people, and why they answered as they did."""

from datetime import timedelta

from fairlead.core.artifact import PackageSpec
from fairlead.core.duration import seconds
from fairlead.core.evidence import Evidence
from fairlead.core.prediction import Prediction
from fairlead.core.ref import Ref
from fairlead.core.veil import hidden
from fairlead.errors import Missing
from fairlead.flow.explain import Explanation, explain, stored
from fairlead.flow.fairness import Fairness, assess, held_out, sensitive
from fairlead.flow.package import restore
from fairlead.project.living import Living

__all__ = ["Explaining"]


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
        package = self.records.artifact(asked.package)
        assert isinstance(package.spec, PackageSpec), "the prediction log names packages"
        return explain(asked, package.spec, restore(package, self.state / "packages", self.blobs),
                       hidden=hidden(self.manifest.log), records=self.records, blobs=self.blobs,
                       compute=self.compute, clock=self.clock, jobs=self.state / "jobs",
                       actor=self.caller().name)  # fmt: skip

    def explained(self, answer: Prediction) -> Explanation | None:
        """The explanation that was computed before, if any."""
        return stored(answer, self.records, self.blobs)

    def live_fairness(self, last: str) -> Fairness:
        """How what serves treated groups of people in the `last` ``30d``, by the logged columns.

        Raises Missing when nothing serves, Invalid when no column is sensitive.
        """
        sensitive(self.manifest)
        here, window = self.records.service(self.name), seconds(last)
        if here is None or here.package is None:
            raise Missing(f"{self.name} serves nothing", hint="leave out --live to see held-out people")
        keep = window + timedelta(days=28).total_seconds()
        found = self._observing(keep).watch(self.clock.now(), window)
        facts = [f for f in found if isinstance(f, Evidence)]
        return assess(here.package, facts, self.manifest, live=True)
