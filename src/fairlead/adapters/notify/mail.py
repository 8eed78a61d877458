"""Alerts by e-mail, over a connection that is encrypted unless the manifest says otherwise."""

import smtplib
import socket
import ssl
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any, Literal

from fairlead.adapters.notify.web import TIMEOUT, dial
from fairlead.core.alert import Notice, Refused, headline, lines
from fairlead.errors import Invalid, Unavailable

__all__ = ["Mail"]


class Mail:
    """Implements `ports.Notifier`. `tls`: "starttls" (port 587), "tls" (465) or "none", which
    sends no password. The Message-ID is made of the key, by which mailboxes drop repetitions."""

    def __init__(
        self, host: str, port: int, sender: str, to: Sequence[str], *,
        tls: Literal["starttls", "tls", "none"] = "starttls", user: str = "",
        password: Callable[[], str] | None = None, allow_private: bool = False,
        trust: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:  # fmt: skip
        self._where, self._tls, self._trust, self._allow_private = (host, port), tls, trust, allow_private
        self._sender, self._to = sender, tuple(to)
        self._user, self._password = user, password

    def tell(self, notice: Notice) -> None:
        host, port = self._where
        try:
            with _Session(host, port, self._trust() if self._tls == "tls" else None,
                          allow_private=self._allow_private) as session:  # fmt: skip
                if self._tls == "starttls":
                    session.starttls(context=self._trust())
                if self._password is not None and self._tls != "none":
                    session.login(self._user, self._password())
                session.send_message(_message(notice, self._sender, self._to))
        except smtplib.SMTPRecipientsRefused:
            raise Invalid(f"{host} refuses every recipient", hint="check `to` and `sender`") from None
        except smtplib.SMTPResponseException as error:
            raise _refused(host, error) from None
        except (OSError, smtplib.SMTPException) as error:
            raise Unavailable(f"mail server {host} does not answer: {error}",
                              hint="it is tried again; is the server up, and `tls` right?") from error  # fmt: skip


class _Session(smtplib.SMTP):
    """A session over a connection to a checked address; `inside`: TLS from the first byte on."""

    def __init__(self, host: str, port: int, inside: ssl.SSLContext | None, *,
                 allow_private: bool) -> None:  # fmt: skip
        self._inside, self._allow_private = inside, allow_private
        super().__init__(host, port, local_hostname="localhost", timeout=TIMEOUT)

    def _get_socket(self, host: str, port: int, timeout: Any) -> socket.socket:
        line = dial(host, port, allow_private=self._allow_private, timeout=timeout)
        return self._inside.wrap_socket(line, server_hostname=host) if self._inside else line


def _message(notice: Notice, sender: str, to: tuple[str, ...]) -> EmailMessage:
    alert = notice.alert
    mail = EmailMessage()
    mail["From"], mail["To"] = sender, ", ".join(to)
    mail["Subject"] = " ".join(headline(notice).split())[:200]
    mail["Date"] = formatdate(notice.at)
    mail["Message-ID"] = f"<{notice.key}@fairlead>"
    mail["Auto-Submitted"] = "auto-generated"
    told = "\n".join(f"{what + ':':<10} {words}" for what, words in lines(alert))
    mail.set_content(f"{headline(notice)}\n\n{told}\n\n-- \nalert {alert.id} of {alert.service}, seen {alert.count} x\n")
    return mail


def _refused(host: str, error: smtplib.SMTPResponseException) -> Invalid | Unavailable:
    what = f"{host} answers {error.smtp_code}"
    if error.smtp_code < 500:
        return Unavailable(what, hint="it is tried again; see the log of the mail server")
    if isinstance(error, smtplib.SMTPDataError):
        return Refused(what, hint="the mail server does not take this message")
    return Invalid(what, hint="check sender, user and password")
