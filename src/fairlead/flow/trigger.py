"""Triggers: what asks for a retraining without an alert: the calendar, new labels, the cost of staying."""

from typing import Protocol

from fairlead.core.cost import Staying
from fairlead.core.duration import seconds
from fairlead.core.manifest import RetrainSection
from fairlead.core.ref import Ref
from fairlead.core.traffic import DAY
from fairlead.flow.retrain import Retrainer
from fairlead.ports import Records

__all__ = ["Seen", "Trigger"]

LOOK = 3600.0
"""Seconds between two looks."""


class Seen(Protocol):
    """What is asked of an observer."""

    def labelled(self, since: float) -> int: ...
    def staying(self, package: Ref, since: float, now: float, price: float) -> Staying | None: ...


class Trigger:
    """Asks for retrainings of one service, as its manifest says.

    Everything counts from the last training: the last retraining that began, won or lost, or when
    the package that serves was made. So one that was refused has to be earned again.
    """

    def __init__(
        self, seen: Seen, retrainer: Retrainer, records: Records, service: str, section: RetrainSection
    ) -> None:
        self._seen, self._retrainer, self._records = seen, retrainer, records
        self._service, self._section = service, section
        self._every = seconds(section.every) if section.every else 0.0
        self._looked_at = float("-inf")

    def turn(self, now: float) -> str:
        """Look, if it is time to; the reason for which a retraining was asked, "" for none."""
        section = self._section
        if not (self._every or section.labels or section.cost) or 0 <= now - self._looked_at < LOOK:
            return ""
        self._looked_at = now
        here = self._records.service(self._service)
        if here is None or here.package is None:
            return ""
        reason = self._reason(here.package, now)
        if reason:
            self._retrainer.request(reason)
        return reason

    def _reason(self, package: Ref, now: float) -> str:
        section = self._section
        since = max(self._retrainer.started_at, self._records.artifact(package).created_at)
        if self._every and now - since >= self._every:
            return f"{(now - since) / DAY:.1f} days since the last training, every {section.every}"
        if section.labels and (n := self._seen.labelled(since)) >= section.labels:
            return f"{n:,} new labels since the last training"
        if section.cost:
            staying = self._seen.staying(package, since, now, section.mistake)
            if staying is not None and staying.cost >= section.cost:
                return (f"staying costs {staying.cost:,.1f} ({staying.debt:,.1f} lost since the last "
                        f"training, {staying.rate:,.1f} a day now), a retraining {section.cost:,.1f}")  # fmt: skip
        return ""
