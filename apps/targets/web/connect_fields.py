"""The fields of the form that connects a target, by kind, and the connection that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from apps.kernel.errors import FieldError, InvalidInput
from apps.targets.images.job import DEFAULT_IMAGE as BUILDER


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
    """Fields under one heading. ``choices`` (value, word, what it means) of the field ``chooses`` come first; with
    ``is_form_only`` the choice is the form's own and no part of the connection."""

    title: str
    fields: tuple[Field, ...]
    chooses: str = ""
    choices: tuple[tuple[str, str, str], ...] = ()
    is_form_only: bool = False


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
    Group(
        "Where images of versions are built",
        (
            Field("build.repository", "Repository", "Where they are pushed; {model} is filled in, the version is the "
                  "tag.", only="here", is_required=True),
            Field("build.push_secret", "Secret that pushes", "Its name in the namespace; of type "
                  "kubernetes.io/dockerconfigjson.", only="here", is_required=True),
            Field("build.token_secret", "Secret that reads models", "Its name in the namespace; an API key is under "
                  "the key token.", only="here", is_required=True),
            Field("build.url", "Builds reach Pilothouse at", "https://… Empty: as everybody does.", only="here"),
            Field("build.image", "Builder", f"Empty: {BUILDER}.", only="here"),
            Field("build.cpu", "CPU of a build", "Empty: 1.", only="here"),
            Field("build.memory", "Memory of a build", "Empty: 4Gi.", only="here"),
            Field("build.scratch", "Scratch space", "Empty: 20Gi.", only="here"),
            Field("build.seconds", "Seconds for a build", "Empty: 3600.", kind="number", only="here"),
        ),
        "builds",
        (
            ("elsewhere", "Elsewhere", "By your CI or by hand; the version's page has the lines."),
            ("here", "In this namespace", "A Job of rootless BuildKit; it needs a namespace that allows user "
             "namespaces, best one of its own."),
        ),
        is_form_only=True,
    ),
    Group(
        "Anything else",
        (
            Field("rest", "More of the connection, as JSON", 'conflicts, endpoints, cluster_domain, and what else has '
                  'no field here, for example {"conflicts": "heal"}. No secrets.', kind="json"),
        ),
    ),
)  # fmt: skip
FORMS: Final[Mapping[str, tuple[Group, ...]]] = {"kubernetes": KUBERNETES, "local": LOCAL}
UNSAID: Final = {"auth.mode": "in_cluster", "route.kind": "replicas"}
"""What the driver takes where a connection does not say it."""


def defaults_of(kind: str) -> dict[str, str]:
    chosen = {group.chooses: group.choices[0][0] for group in FORMS[kind] if group.chooses}
    return chosen | {field.name: field.default for group in FORMS[kind] for field in group.fields if field.default}


def connection_of(kind: str, typed: Mapping[str, str]) -> tuple[dict[str, Any], list[FieldError]]:
    """What was typed as the driver's connection, fields of another choice and empty ones left out; and what is no
    number or no JSON, at its place. The rest is the driver's to judge."""
    found: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    faults: list[FieldError] = []
    for group in FORMS[kind]:
        chosen = typed.get(group.chooses, "")
        if group.chooses and not group.is_form_only:
            _put(found, group.chooses, chosen)
        for field in group.fields:
            text = typed.get(field.name, "").strip()
            if (field.only and chosen not in field.only.split()) or field.kind == "secret" or not text:
                continue
            try:
                if field.kind == "json":
                    extra = _merged(extra, _json(field.name, text))
                else:
                    _put(found, field.name, _value(field, text))
            except InvalidInput as error:
                faults += error.fields
    return _merged(extra, found), faults


def typed_of(kind: str, connection: Mapping[str, Any]) -> dict[str, str]:
    """What the form would have held for ``connection``: the inverse of ``connection_of``. What has no field stands in
    those that take JSON, so that nothing is lost by editing."""
    left: dict[str, Any] = orjson.loads(orjson.dumps(connection))
    typed: dict[str, str] = {}
    for group in FORMS[kind]:
        if group.is_form_only:
            typed[group.chooses] = "here" if "build" in connection else "elsewhere"
        elif group.chooses:
            typed[group.chooses] = str(_take(left, group.chooses) or UNSAID[group.chooses])
        for field in group.fields:
            value = _take(left, field.name) if field.kind not in {"json", "secret"} else None
            typed[field.name] = ", ".join(value) if isinstance(value, list) else "" if value is None else str(value)
    jsons = {"more": _written(left.pop("profile", None)), "rest": _written(left)}
    return typed | {name: text for name, text in jsons.items() if name in typed}


def drop(connection: dict[str, Any], name: str, *, unless_in: Mapping[str, Any]) -> None:
    """Take the value at that place out of ``connection``, unless the other has one there."""
    if _take(orjson.loads(orjson.dumps(unless_in)), name) is None:
        _take(connection, name)


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
    if "more" not in known:
        return ""
    return "more" if path.startswith("profile") else "rest" if path else ""


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


def _json(name: str, text: str) -> dict[str, Any]:
    """The object; that of ``more`` belongs into the profile."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput.at(_pointer(name), "not_json", f"This is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise InvalidInput.at(_pointer(name), "bad_type", 'Write a JSON object, for example {"uid": 1000}.')
    return {"profile": found} if name == "more" else found


def _written(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode() if value else ""


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both, ``above`` winning where they meet; objects are merged member by member."""
    both = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], Mapping) and isinstance(above[key], Mapping):
            both[key] = _merged(below[key], above[key])
    return both


def _take(left: dict[str, Any], name: str) -> Any:
    """The value at that place, taken out; objects that are empty then go too."""
    *path, last = name.split(".")
    places = [left]
    for part in path:
        inner = places[-1].get(part)
        if not isinstance(inner, dict):
            return None
        places.append(inner)
    value = places[-1].pop(last, None)
    for part, outer in zip(reversed(path), reversed(places[:-1]), strict=True):
        if not outer[part]:
            del outer[part]
    return value


def _put(found: dict[str, Any], name: str, value: Any) -> None:
    *path, last = name.split(".")
    place = found
    for part in path:
        place = place.setdefault(part, {})
    place[last] = value


def _pointer(name: str) -> str:
    return f"/connection/{name.replace('.', '/')}"
