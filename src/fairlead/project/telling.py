"""What a project tells people: alerts, and what they do about them; and reports of the past."""

from collections.abc import Callable
from functools import cached_property

from fairlead.adapters.notify.alertmanager import Alertmanager
from fairlead.adapters.notify.command import Command
from fairlead.adapters.notify.log import LogNotifier
from fairlead.adapters.notify.mail import Mail
from fairlead.adapters.notify.slack import Slack
from fairlead.adapters.notify.webhook import Webhook
from fairlead.core.alert import Alerts
from fairlead.core.duration import seconds
from fairlead.core.event import Event
from fairlead.core.manifest import ReceiverText
from fairlead.flow import alert
from fairlead.flow.report import Report, report
from fairlead.flow.survey import Standing, survey
from fairlead.ports import Notifier
from fairlead.project.living import Living
from fairlead.settings import child_environment, secret

__all__ = ["Telling"]

Text = Callable[[], str]


class Telling(Living):
    """Verbs around alerts. Secrets are read when something is sent, never before."""

    def alerts(self) -> Alerts:
        """All alerts, silences and deliveries, as of now."""
        return alert.read(self.records, self.name)

    def acknowledge(self, alert_id: int, note: str = "") -> Event:
        """Say that you look after an alert. Raises Missing, Conflict."""
        return alert.acknowledge(self.records, self.clock, self.name, alert_id, actor=self.by("release"),
                                 note=note)  # fmt: skip

    def resolve_alert(self, alert_id: int, reason: str) -> Event:
        """End an alert by hand. Raises Missing, Conflict, Invalid."""
        return alert.resolve(self.records, self.clock, self.name, alert_id, actor=self.by("release"),
                             reason=reason)  # fmt: skip

    def silence(self, monitor: str, length: str, reason: str) -> Event:
        """Tell nobody of a monitor for `length` (``2h``). Raises Invalid."""
        return alert.silence(self.records, self.clock, self.name, monitor, seconds(length),
                             actor=self.by("release"), reason=reason)  # fmt: skip

    def report(self, since: float, until: float) -> Report:
        """A stretch of the past as values; it begins with the first answer that is remembered.
        Raises Missing when nothing was asked then."""
        now = self.clock.now()
        return report(self._observing(now - since), self.records, self.name, since, until, now)

    def survey(self) -> list[Standing]:
        """Where every monitor stands, judged now."""
        return survey(self.observer(), self.records, self.name, self.monitors(),
                      self._alarms(), self.clock.now())  # fmt: skip

    @cached_property
    def receivers(self) -> dict[str, Notifier]:
        """Those of the manifest by name, and the file .fairlead/alerts.log."""
        named = {r.title: self._receiver(r) for r in self.manifest.alerts.to}
        return {"log": LogNotifier(self.state / "alerts.log"), **named}

    @cached_property
    def courier(self) -> alert.Courier:
        """Brings word to the receivers; for the one process that turns the loop."""
        return alert.Courier(self.records, self.clock, self.name, self.receivers)

    def _receiver(self, to: ReceiverText) -> Notifier:
        if to.webhook is not None:
            at = to.webhook
            return Webhook(self._address(at.url, at.url_env, at.url_file),
                           self._if_any(at.secret_env, at.secret_file), allow_private=at.allow_private)  # fmt: skip
        if to.slack is not None:
            return Slack(self._secret(to.slack.url_env, to.slack.url_file),
                         allow_private=to.slack.allow_private)  # fmt: skip
        if to.alertmanager is not None:
            there = to.alertmanager
            return Alertmanager(self._address(there.url, there.url_env, there.url_file),
                                self._if_any(there.token_env, there.token_file),
                                allow_private=there.allow_private)  # fmt: skip
        if to.email is not None:
            mail = to.email
            return Mail(mail.host, mail.port, mail.sender, mail.to, tls=mail.tls, user=mail.user,
                        password=self._if_any(mail.password_env, mail.password_file),
                        allow_private=mail.allow_private)  # fmt: skip
        assert to.command is not None, "the manifest gives every receiver one kind"
        return Command(to.command.run, self.root, child_environment({}),
                       timeout=seconds(to.command.timeout))  # fmt: skip

    def _address(self, url: str, variable: str, file: str) -> Text:
        return (lambda: url) if url else self._secret(variable, file)

    def _if_any(self, variable: str, file: str) -> Text | None:
        return self._secret(variable, file) if variable or file else None

    def _secret(self, variable: str, file: str) -> Text:
        return lambda: secret(variable, self.root / file if file else None)
