"""The fields of the form that connects a target, by kind, and the connection that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from apps.kernel.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Field:
    """``name`` is the place in the connection, dots between the levels. ``only``: the choices that it belongs to,
    "" for all. ``kind``: text, number, list (commas), flag, json, secret (goes into the vault: never shown again).
    ``is_required`` is what the label says; what is missing is the driver's to refuse."""

    name: str
    label: str
    hint: str = ""
    kind: str = "text"
    default: str = ""
    only: str = ""
    is_required: bool = False

    @property
    def dom_id(self) -> str:
        return self.name.replace(".", "-")


@dataclass(frozen=True, slots=True)
class Group:
    """Fields under one heading. ``choices`` (value, word, what it means) of the field ``chooses`` come first."""

    title: str
    fields: tuple[Field, ...]
    chooses: str = ""
    choices: tuple[tuple[str, str, str], ...] = ()


LOCAL: Final = (
    Group(
        "The node agent",
        (
            Field("url", "Address", "Empty: the agent of this machine."),
            Field("token_file", "Token file", "Below PILOTHOUSE_TOKEN_ROOTS. Empty: this machine's own."),
        ),
    ),
)
KUBERNETES: Final = (
    Group(
        "How the cluster is reached",
        (
            Field("credentials.kubeconfig", "Kubeconfig", "Its text; kept encrypted, never shown again.",
                  kind="secret", only="kubeconfig", is_required=True),
            Field("auth.kubeconfig_file", "Kubeconfig file", "Instead: a file below PILOTHOUSE_TOKEN_ROOTS.",
                  only="kubeconfig"),
            Field("auth.context", "Context", "Empty: the file's current one.", only="kubeconfig"),
            Field("auth.server", "API server", "https://…", only="token", is_required=True),
            Field("credentials.token", "Token", "Kept encrypted, never shown again.", kind="secret", only="token",
                  is_required=True),
            Field("auth.token_file", "Token file", "Instead: a file below PILOTHOUSE_TOKEN_ROOTS; read again when "
                  "renewed.", only="token"),
            Field("credentials.ca", "CA certificate", "In PEM form. Empty: the system's authorities.", kind="secret",
                  only="token"),
            Field("auth.ca_file", "CA file", "Instead: a file below PILOTHOUSE_TOKEN_ROOTS.", only="token"),
            Field("namespace", "Namespace", "It must exist. One target is one namespace.", is_required=True),
        ),
        "auth.mode",
        (
            ("kubeconfig", "Kubeconfig", "One that runs a program is refused."),
            ("token", "Token", "A service account's token."),
            ("in_cluster", "This pod", "The service account that Pilothouse itself runs under."),
        ),
    ),
    Group(
        "How requests find a version",
        (
            Field("route.gateway", "Gateway", "namespace/name. With Istio also mesh, which is what empty means there.",
                  only="gateway istio", is_required=True),
            Field("route.hosts", "Host names", "Separated by commas.", kind="list", only="gateway istio"),
            Field("route.total_replicas", "Pods in all", "What the shares are made of: with 10, steps of 10 %.",
                  kind="number", default="10", only="replicas"),
            Field("route.kserve_mode", "Mode of KServe", "standard (KServe 0.20 or newer) or knative.",
                  default="standard", only="kserve"),
            Field("route.address", "Address for callers", "Empty: from the first host name."),
        ),
        "route.kind",
        (
            ("gateway", "Gateway API", "Exact shares, forced versions, copies."),
            ("istio", "Istio", "The same by a VirtualService."),
            ("replicas", "Number of pods", "Nothing to install; shares are approximate, no copies."),
            ("kserve", "KServe", "An InferenceService makes the pods; whole percents, no copies."),
        ),
    ),
    Group(
        "How a version's pods are made",
        (
            Field("profile.image", "Image", "{model}, {version}, {key} and {digest} are filled in.", is_required=True),
            Field("profile.pull_secrets", "Pull secrets", "Names, separated by commas.", kind="list"),
            Field("profile.cpu", "CPU", "Asked for per pod.", default="500m"),
            Field("profile.memory", "Memory", "Asked for and limit, per pod.", default="1Gi"),
            Field("profile.gpus", "GPUs", "Per pod.", kind="number", default="0"),
            Field("profile.startup_seconds", "Seconds to start", "The worst time from start to warm.", kind="number",
                  default="600"),
            Field("profile.drain_seconds", "Seconds to drain", "How long the route takes to be obeyed everywhere.",
                  kind="number", default="30"),
            Field("profile.telemetry.url", "Pods report to", "This product as the pods see it, https://…. Empty: "
                  "nothing is measured there, and a rollout has nothing to go by."),
            Field("profile.telemetry.secret", "Secret of the reports", "Its name in the namespace; the ingest token is "
                  "under the key token."),
            Field("more", "More of the profile, as JSON",
                  'For example {"node_selector": {"pool": "gpu"}}. It is shown to whoever sees the target: no secrets.',
                  kind="json"),
        ),
    ),
)  # fmt: skip
FORMS: Final[Mapping[str, tuple[Group, ...]]] = {"kubernetes": KUBERNETES, "local": LOCAL}


def defaults_of(kind: str) -> dict[str, str]:
    chosen = {group.chooses: group.choices[0][0] for group in FORMS[kind] if group.chooses}
    return chosen | {field.name: field.default for group in FORMS[kind] for field in group.fields if field.default}


def connection_of(kind: str, typed: Mapping[str, str]) -> dict[str, Any]:
    """What was typed as the driver's connection; fields of another choice and empty ones are left out.

    Raises InvalidInput naming the place for what is no number or no JSON; the rest is the driver's to judge.
    """
    found: dict[str, Any] = {}
    for group in FORMS[kind]:
        chosen = typed.get(group.chooses, "")
        if group.chooses:
            _put(found, group.chooses, chosen)
        for field in group.fields:
            text = typed.get(field.name, "").strip()
            if field.only and chosen not in field.only.split():
                continue
            if field.kind == "secret":
                continue
            if text and field.kind == "json":
                found["profile"] = {**_json(text), **found.get("profile", {})}
            elif text:
                _put(found, field.name, _value(field, text))
    return found


def credentials_of(kind: str, typed: Mapping[str, str]) -> dict[str, str]:
    """What was typed that belongs into the vault."""
    found: dict[str, str] = {}
    for group in FORMS[kind]:
        chosen = typed.get(group.chooses, "")
        for field in group.fields:
            text = typed.get(field.name, "").strip()
            if field.kind == "secret" and text and chosen in field.only.split():
                found[field.name.removeprefix("credentials.")] = text
    return found


def secrets_of(kind: str, mode: str) -> tuple[Field, ...]:
    """The fields of a mode's credentials, to type others."""
    return tuple(
        field
        for group in FORMS.get(kind, ())
        for field in group.fields
        if field.kind == "secret" and mode in field.only.split()
    )


def field_of(kind: str, pointer: str) -> str:
    """The form's field for a JSON pointer into what was sent; "" where there is none."""
    path = pointer.strip("/").removeprefix("connection").strip("/").replace("/", ".")
    known = {field.name for group in FORMS.get(kind, ()) for field in group.fields}
    known |= {group.chooses for group in FORMS.get(kind, ()) if group.chooses}
    if path in known or path in {"name", "environment", "no_traffic_policy", "kind"}:
        return path
    return "more" if path.startswith("profile") and "more" in known else ""


def worded(kind: str, pointer: str, detail: str) -> str:
    """What a fault says, with the label of its field in place of the JSON pointer that the API's callers read."""
    name = field_of(kind, pointer)
    label = next((field.label for group in FORMS.get(kind, ()) for field in group.fields if field.name == name), "")
    return detail.replace(pointer, label, 1) if label and detail.startswith(pointer) else detail


def _value(field: Field, text: str) -> Any:
    if field.kind == "list":
        return [item.strip() for item in text.split(",") if item.strip()]
    if field.kind == "number":
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise InvalidInput.at(_pointer(field.name), "not_a_number", f"{text[:40]!r} is no whole number.")
        return int(text)
    return text


def _json(text: str) -> dict[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput.at("/connection/more", "not_json", f"This is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise InvalidInput.at("/connection/more", "bad_type", 'Write a JSON object, for example {"uid": 1000}.')
    return found


def _put(found: dict[str, Any], name: str, value: Any) -> None:
    *path, last = name.split(".")
    place = found
    for part in path:
        place = place.setdefault(part, {})
    place[last] = value


def _pointer(name: str) -> str:
    return f"/connection/{name.replace('.', '/')}"
