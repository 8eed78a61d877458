"""Alerts to a webhook: the whole notice as JSON, signed, with a key that tells repetitions."""

import hmac
from collections.abc import Callable

from fairlead.adapters.notify.web import post
from fairlead.core.alert import Notice, document

__all__ = ["Webhook"]


class Webhook:
    """Implements `ports.Notifier`. POSTs ``{"key", "kind", "at", "text", "alert": {...}}``.

    With a `secret`, the header ``X-Fairlead-Signature: sha256=<hex>`` is the HMAC-SHA-256 of the
    body; ``Idempotency-Key`` is the key. Both texts are asked for at every delivery.
    """

    def __init__(self, url: Callable[[], str], secret: Callable[[], str] | None = None, *,
                 allow_private: bool = False) -> None:  # fmt: skip
        self._url, self._secret, self._allow_private = url, secret, allow_private

    def tell(self, notice: Notice) -> None:
        body = document(notice)
        headers = {"Content-Type": "application/json", "Idempotency-Key": notice.key}
        if self._secret is not None:
            signed = hmac.new(self._secret().encode(), body, "sha256").hexdigest()
            headers["X-Fairlead-Signature"] = f"sha256={signed}"
        post(self._url(), body, headers, allow_private=self._allow_private)
