"""E-mail: Apprise reads the address and writes the message; the connection is ours, to an address that was checked.

1. the server's name is resolved once and every address that is not public refused, unless settings open it;
2. the connection goes to what was checked, while TLS keeps the name; 3. every wait has an end; 4. a password is sent
   inside TLS only.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
import warnings
from typing import Any, Final

import certifi
from apprise import NotifyFormat

from apps.alerts.domain.messages import Message
from apps.kernel.outbound import OutboundFault, addresses_checked, is_allow_listed
from apps.kernel.telling import Outcome

with warnings.catch_warnings():
    # Its OpenPGP part, which no address of ours reaches, imports a module that Python 3.13 drops (and then a shim).
    warnings.filterwarnings("ignore", "'imghdr' is deprecated", DeprecationWarning)
    from apprise.plugins.email.base import NotifyEmail

__all__ = ["NotifyEmail", "mail_send"]
PORTS: Final = frozenset({25, 465, 587, 2525})
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 15.0


def mail_send(plugin: NotifyEmail, message: Message) -> Outcome:
    """``plugin`` as Apprise made it from the address. Raises nothing: the fault is the outcome."""
    host, port, mode = str(plugin.smtp_host), int(plugin.port or 25), str(getattr(plugin.secure_mode, "value", ""))
    fault = _fault(host, port, mode, plugin)
    if fault:
        return Outcome(0, "", fault, is_final=True)
    try:
        with _connected(host, port, mode) as server:
            if plugin.user and plugin.password:
                server.login(plugin.user, plugin.password)
            refused = _hand_over(server, plugin, message)
    except OutboundFault as error:
        return Outcome(0, "", error.detail, is_final=not error.is_retryable)
    except smtplib.SMTPResponseException as error:
        said = error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        return Outcome(error.smtp_code, "", f"{host} answered {error.smtp_code}: {said}"[:500])
    except (OSError, smtplib.SMTPException) as error:
        return Outcome(0, "", f"{host} could not be used: {error or type(error).__name__}"[:500])
    if refused:
        return Outcome(550, "", f"{host} refused {', '.join(sorted(refused))}"[:500])
    return Outcome(250)


def _fault(host: str, port: int, mode: str, plugin: NotifyEmail) -> str:
    if port not in PORTS and not is_allow_listed(host, port):
        return f"Port {port} is no port of mail; allowed are 25, 465, 587, 2525 and PILOTHOUSE_OUTBOUND_ALLOW."
    if mode == "insecure" and plugin.password:
        return "A password is not sent without TLS; use mailtos:// instead of mailto://."
    return ""


def _connected(host: str, port: int, mode: str) -> smtplib.SMTP:
    """A greeted server, inside TLS where the mode asks for it."""
    addresses = addresses_checked(host, port)
    trusted = ssl.create_default_context(cafile=certifi.where())
    last: OSError | None = None
    for address in addresses:
        try:
            raw = socket.create_connection((address, port), timeout=CONNECT_SECONDS)
        except OSError as error:
            last = error
            continue
        raw.settimeout(ANSWER_SECONDS)
        if mode == "ssl":
            raw = trusted.wrap_socket(raw, server_hostname=host)
        server = _Pinned(host, port, raw)
        if mode == "starttls":
            server.starttls(context=trusted)
        return server
    raise last or OSError("no address")


class _Pinned(smtplib.SMTP):
    """Speaks over a connection that exists already; ``host`` is for TLS and greetings."""

    def __init__(self, host: str, port: int, connection: socket.socket) -> None:
        self._connection = connection
        super().__init__(host, port, timeout=ANSWER_SECONDS)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self._connection


def _hand_over(server: smtplib.SMTP, plugin: NotifyEmail, message: Message) -> set[str]:
    """Who was refused; nobody where all is well."""
    refused: set[str] = set()
    mails: Any = NotifyEmail.prepare_emails(
        subject=message.subject, body=message.body, notify_format=NotifyFormat.TEXT, from_addr=plugin.from_addr,
        to=plugin.targets, cc=plugin.cc, bcc=plugin.bcc, smtp_host=plugin.smtp_host, names=plugin.names,
        headers={"X-Application": "Pilothouse", "References": f"<{message.dedup_key}@pilothouse>"},
    )  # fmt: skip
    for mail in mails:
        refused |= set(server.sendmail(str(plugin.from_addr[1]), mail.to_addrs, mail.body))
    return refused
