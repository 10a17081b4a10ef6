"""Slack, Teams and e-mail through Apprise, of which only what domain/addresses.py allows ever reaches it.

Apprise reads addresses by its own rules. So what is checked here once more is not the text but what Apprise made of
it: the class, the host it will call, that certificates are checked and no file of this machine is read.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import apprise
from apprise import NotifyFormat, NotifyType
from apprise.plugins.slack import NotifySlack
from apprise.plugins.workflows import NotifyWorkflows

from apps.alerts.domain.addresses import TEAMS_HOSTS
from apps.alerts.domain.incidents import ChangeKind, Severity
from apps.alerts.domain.messages import Message
from apps.alerts.domain.states import ChannelKind
from apps.alerts.drivers.mail import NotifyEmail, mail_send
from apps.kernel.outbound import is_allow_listed
from apps.kernel.telling import Outcome

CONNECT_SECONDS: Final = 3.0
ANSWER_SECONDS: Final = 10.0
_CLASSES: Final = {
    ChannelKind.SLACK: NotifySlack,
    ChannelKind.TEAMS: NotifyWorkflows,
    ChannelKind.EMAIL: NotifyEmail,
}
_ASSET: Final = apprise.AppriseAsset(
    app_id="Pilothouse", app_desc="Pilothouse", app_url="", plugin_paths=[], async_mode=False, secure_logging=True
)


def plugin_of(kind: ChannelKind, url: str) -> Any:
    """What Apprise makes of a checked address, None where it does not understand it, or not as it was meant."""
    # The class is named here: Apprise's own look-up by scheme would load every one of its services.
    cls: Any = _CLASSES[kind]
    read = cls.parse_url(url)
    if not read:
        return None
    try:
        made = cls(**{**read, "asset": _ASSET})
    except (TypeError, ValueError):
        return None
    if not made.verify_certificate or len(getattr(made, "template", None) or ()):
        return None
    if isinstance(made, NotifyEmail) and not (made.smtp_host and made.targets):
        return None
    if isinstance(made, NotifyWorkflows):
        host, port = str(made.host).lower(), int(made.port or 443)
        if not (host.endswith(TEAMS_HOSTS) and port == 443) and not is_allow_listed(host, port):
            return None
    made.redirects = False
    made.socket_connect_timeout, made.socket_read_timeout = CONNECT_SECONDS, ANSWER_SECONDS
    return made


def chat_send(kind: ChannelKind, url: str, message: Message) -> Outcome:
    """One message. Raises nothing: the fault is the outcome."""
    plugin = plugin_of(kind, url)
    if plugin is None:
        return Outcome(0, "", "The address is not understood any more; write it anew.", is_final=True)
    if kind is ChannelKind.EMAIL:
        return mail_send(plugin, message)
    plugin.notify_format = NotifyFormat.TEXT
    capture: Any = apprise.LogCapture
    with capture(level=logging.WARNING, fmt="%(message)s") as said:
        is_sent = plugin.notify(body=message.body, title=message.subject, notify_type=_type(message))
        why = " ".join(said.getvalue().split())
    return Outcome(200) if is_sent else Outcome(0, "", why[:500] or "it was not accepted")


def _type(message: Message) -> NotifyType:
    if message.kind == ChangeKind.RESOLVED:
        return NotifyType.SUCCESS
    return NotifyType.FAILURE if message.severity == Severity.PAGE else NotifyType.WARNING
