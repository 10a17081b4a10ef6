"""Where alerts may be sent: an allow-list of forms, by kind. Pure.

Apprise knows more than a hundred schemes, some of which read local files (``template=``, ``pgpprv=``), turn the check
of certificates off (``verify=no``), follow redirects or let the writer of a URL choose any host. So each kind names
its scheme, the parameters that may be given, and which hosts; everything else is refused when it is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from apps.alerts.domain.states import ChannelKind
from apps.kernel.errors import InvalidInput

MAX_LENGTH: Final = 2000
TEAMS_HOSTS: Final = (".logic.azure.com", ".api.powerplatform.com", ".powerautomate.com")
"""Where Microsoft runs the workflows behind Teams; its older webhook.office.com addresses ended."""
KEY_LENGTH: Final = 20
"""At least: keys of PagerDuty have 32 characters, those of Opsgenie 36."""
_WORD: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Form:
    """One kind: its schemes, an example, the query parameters that may be given."""

    kind: ChannelKind
    word: str
    schemes: tuple[str, ...]
    example: str
    parameters: frozenset[str] = frozenset()


FORMS: Final = {
    form.kind: form
    for form in (
        Form(ChannelKind.SLACK, "Slack", ("slack",), "slack://T0PILOT01/B0PILOT01/aPlaceForTheWebhooksKey"),
        Form(
            ChannelKind.TEAMS, "Microsoft Teams (workflow)", ("workflows", "workflow"),
            "workflows://prod-1.westeurope.logic.azure.com:443/0123456789abcdef0123456789abcdef/aPlaceForTheSignature",
            frozenset({"id", "sig", "signature", "pa", "powerautomate", "route", "routeid", "ver", "api-version"}),
        ),
        Form(
            ChannelKind.PAGERDUTY, "PagerDuty", ("pagerduty",), "pagerduty://0123456789abcdef0123456789abcdef?region=eu",
            frozenset({"region"}),
        ),
        Form(
            ChannelKind.OPSGENIE, "Opsgenie", ("opsgenie",), "opsgenie://01234567-89ab-cdef-0123-456789abcdef?region=eu",
            frozenset({"region"}),
        ),
        Form(
            ChannelKind.EMAIL, "E-mail", ("mailtos", "mailto"),
            "mailtos://user:password@example.com?smtp=smtp.example.com&from=alerts@example.com&to=oncall@example.com",
            frozenset({"smtp", "from", "name", "to", "cc", "bcc", "mode", "user", "pass"}),
        ),
        Form(ChannelKind.WEBHOOK, "Webhook", ("https", "http"), "https://hooks.example.com/alerts"),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Address:
    """A checked address. ``shown`` may be read by people; ``host`` and ``port`` are where the connection goes, where
    its writer chose them ("" and 0: the service's own host)."""

    kind: ChannelKind
    url: str
    shown: str
    host: str = ""
    port: int = 0


def address_of(kind: str, text: str, *, is_allowed: Callable[[str, int], bool]) -> Address:
    """Check ``text`` as an address of ``kind``. ``is_allowed(host, port)`` opens hosts that an operator has named.

    Raises InvalidInput naming the field and the way out; no part of the address is in the text, since it is a secret.
    """
    if kind not in FORMS:
        raise _bad("/kind", "kind_unknown", f"A channel is one of {', '.join(FORMS)}.")
    form = FORMS[ChannelKind(kind)]
    parts = _parts(form, text.strip())
    match form.kind:
        case ChannelKind.SLACK:
            return _slack(form, parts)
        case ChannelKind.TEAMS:
            return _teams(form, parts, is_allowed)
        case ChannelKind.PAGERDUTY | ChannelKind.OPSGENIE:
            return _keyed(form, parts)
        case ChannelKind.EMAIL:
            return _mail(form, parts)
        case _:
            return Address(form.kind, parts.geturl(), parts.hostname or "", parts.hostname or "", parts.port or 0)


def region_of(url: str) -> str:
    """``us`` or ``eu`` of a PagerDuty or Opsgenie address."""
    return dict(parse_qsl(urlsplit(url).query)).get("region", "us").lower()


def key_of(url: str) -> str:
    """The key of a PagerDuty or Opsgenie address, in its own spelling (a host's name would be lower case)."""
    return urlsplit(url).netloc


def _parts(form: Form, text: str) -> SplitResult:
    """Scheme, characters, length and parameters, the same for all."""
    if not text or len(text) > MAX_LENGTH or not (text.isascii() and text.isprintable()) or " " in text:
        raise _form(form)
    if form.kind is ChannelKind.SLACK:
        text = re.sub(r"^https://hooks\.slack\.com/services/", "slack://", text)
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise _form(form) from error
    if parts.scheme not in form.schemes or not parts.netloc or parts.fragment:
        raise _form(form)
    if form.kind is ChannelKind.WEBHOOK:
        if parts.username is not None or not parts.hostname:
            raise _form(form)
        return parts
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name.lower() not in form.parameters or any(ord(letter) < 32 for letter in value):
            known = ", ".join(sorted(form.parameters)) or "none"
            raise _bad(
                "/address", "parameter_refused", f"The parameter {name[:40]} may not be given; known are {known}."
            )
    return parts


def _slack(form: Form, parts: SplitResult) -> Address:
    """Three tokens of an incoming webhook, or a bot's token and channels; the host is Slack's."""
    words = [parts.netloc.rpartition("@")[2], *[word for word in parts.path.split("/") if word]]
    is_bot = words[0].lower().startswith(("xoxb-", "xoxp-", "xoxe."))
    names = words[1:] if is_bot else words[3:]
    tokens = words[:1] if is_bot else words[:3]
    if not is_bot and len(tokens) < 3:
        raise _form(form)
    if not all(re.fullmatch(r"[A-Za-z0-9.-]+", word) for word in tokens):
        raise _form(form)
    if not all(re.fullmatch(r"(%23|%40|%2B|\+|@)?[A-Za-z0-9._-]+", word, re.IGNORECASE) for word in names):
        raise _form(form)
    where = ", ".join(unquote(name) for name in names) if names else "the webhook's own channel"
    return Address(form.kind, parts.geturl(), f"Slack, {where}")


def _teams(form: Form, parts: SplitResult, is_allowed: Callable[[str, int], bool]) -> Address:
    host, port = (parts.hostname or "").lower(), parts.port or 443
    if parts.username is not None or not host:
        raise _form(form)
    if not (host.endswith(TEAMS_HOSTS) and port == 443) and not is_allowed(host, port):
        ends = ", ".join(TEAMS_HOSTS)
        raise _bad("/address", "host_refused", f"A workflow of Teams is at a host that ends with {ends}, port 443.")
    return Address(form.kind, parts.geturl(), host, host, port)


def _keyed(form: Form, parts: SplitResult) -> Address:
    """A key and nothing that could be a host. One that is too short is a slip, and its end would be all of it."""
    if not _WORD.fullmatch(parts.netloc) or len(parts.netloc) < KEY_LENGTH or parts.path.strip("/"):
        raise _form(form)
    region = region_of(parts.geturl())
    if region not in {"us", "eu"}:
        raise _bad("/address", "region_unknown", "region is us or eu.")
    return Address(form.kind, parts.geturl(), f"{form.word}, {region}, key …{parts.netloc[-4:]}")


def _mail(form: Form, parts: SplitResult) -> Address:
    """The connection goes to ``smtp``, else to the host; port 587, or 465 where TLS is spoken from the start."""
    asked = {name.lower(): value for name, value in parse_qsl(parts.query)}
    host = (asked.get("smtp") or parts.hostname or "").lower()
    mode = asked.get("mode", "").lower()
    if not re.fullmatch(r"[a-z0-9.-]+|[0-9a-f:.]+", host) or mode not in {"", "starttls", "ssl", "insecure"}:
        raise _form(form)
    targets = [asked["to"]] if asked.get("to") else [unquote(word) for word in parts.path.split("/") if word]
    told = ", ".join(targets) or unquote(f"{parts.username or ''}@{parts.hostname}")
    if "\r" in told or "\n" in told:
        raise _form(form)
    return Address(form.kind, parts.geturl(), f"{told} by {host}"[:300], host, parts.port or 0)


def _form(form: Form) -> InvalidInput:
    return _bad("/address", "bad_address", f"An address of {form.word} looks like {form.example}.")


def _bad(pointer: str, code: str, detail: str) -> InvalidInput:
    return InvalidInput.at(pointer, code, detail)
