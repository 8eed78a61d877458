"""Alerts to Prometheus Alertmanager, which groups, routes and repeats them with all the others."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from fairlead.adapters.notify.web import post
from fairlead.core.alert import Notice, headline, lines

__all__ = ["Alertmanager"]

LASTS = 30 * 86400.0
"""Seconds after which an alert that nobody resolves is over for Alertmanager; a reminder renews it."""


class Alertmanager:
    """Implements `ports.Notifier` on the API v2 (``POST /api/v2/alerts``). The labels name the
    alert, so that telling twice changes nothing there. `token`: for a proxy before it."""

    def __init__(self, url: Callable[[], str], token: Callable[[], str] | None = None, *,
                 allow_private: bool = False) -> None:  # fmt: skip
        self._url, self._token, self._allow_private = url, token, allow_private

    def tell(self, notice: Notice) -> None:
        alert = notice.alert
        ends = alert.ended_at if notice.kind == "resolved" else notice.at + LASTS
        labels = {"alertname": alert.name, "service": alert.service, "release": alert.release,
                  "package": alert.package.partition("@")[0], "source": "fairlead",
                  "fairlead_alert": str(alert.id)}  # fmt: skip
        told = {
            "labels": {k: v for k, v in labels.items() if v},
            "annotations": {"summary": headline(notice), **dict(lines(alert))},
            "startsAt": _moment(alert.raised_at), "endsAt": _moment(ends),
        }  # fmt: skip
        headers = {"Content-Type": "application/json", "Idempotency-Key": notice.key}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token()}"
        url = self._url().rstrip("/") + "/api/v2/alerts"
        post(url, msgspec.json.encode([told]), headers, allow_private=self._allow_private)


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
