"""Alerts to a chat: incoming webhooks of Slack, and of Mattermost, Rocket.Chat and others like it."""

from collections.abc import Callable
from typing import Any

import msgspec

from fairlead.adapters.notify.web import post
from fairlead.core.alert import Notice, headline, lines

__all__ = ["Slack"]

SIGNS = {"raised": ":red_circle:", "repeated": ":red_circle:", "failed": ":warning:",
         "resolved": ":large_green_circle:"}  # fmt: skip
MOST = 2900
"""Characters of one block; Slack refuses more than 3,000."""


class Slack:
    """Implements `ports.Notifier`. The address is the secret here, so it is asked for when needed.

    Slack knows no keys: after a crash a message may come twice; the key stands at its end.
    """

    def __init__(self, url: Callable[[], str], *, allow_private: bool = False) -> None:
        self._url, self._allow_private = url, allow_private

    def tell(self, notice: Notice) -> None:
        body = msgspec.json.encode(_message(notice))
        headers = {"Content-Type": "application/json", "Idempotency-Key": notice.key}
        post(self._url(), body, headers, allow_private=self._allow_private)


def _message(notice: Notice) -> dict[str, Any]:
    alert = notice.alert
    facts = "\n".join(f"*{what}*  {_plain(words)}" for what, words in lines(alert))
    foot = _plain(f"{alert.service} · alert {alert.id} · {notice.key}")
    return {
        "text": _plain(headline(notice)),
        "blocks": [
            _section(f"{SIGNS[notice.kind]} *{_plain(headline(notice))}*"),
            _section(facts),
            {"type": "context", "elements": [{"type": "mrkdwn", "text": foot}]},
        ],
    }


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:MOST]}}


def _plain(text: str) -> str:
    """Text that names nobody and links nowhere: Slack reads <@user>, <!channel> and <url|text>."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
