"""How the cluster is reached: a kubeconfig file, a token, or the service account of the pod we run in."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from django.conf import settings
from kubernetes import client
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config_from_dict

from apps.kernel.errors import DriverError, InvalidInput
from apps.kernel.roots import path_below
from apps.targets.drivers.kubernetes.reading import Reader
from apps.targets.drivers.kubernetes.secrets import check_secrets, kubeconfig_of

MODES = ("in_cluster", "kubeconfig", "token")
FILES = ("kubeconfig_file", "token_file", "ca_file")
_OF_MODE = {
    "in_cluster": (),
    "kubeconfig": ("kubeconfig_file", "context"),
    "token": ("server", "token_file", "ca_file"),
}
_BELONGS = {key: mode for mode, keys in _OF_MODE.items() for key in keys}


def check_auth(connection: Mapping[str, Any], secrets: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """The ``auth`` of a connection as it stands, its form checked; files are read at the first call, not here.

    ``secrets`` are what was typed instead of named. Raises InvalidInput naming the field.
    """
    reader = Reader("/connection/auth", connection.get("auth", {}))
    mode = reader.one_of("mode", MODES, "in_cluster")
    check_secrets(reader.raw(), secrets or {})
    for key in {"kubeconfig": ("kubeconfig_file",), "token": ("server", "token_file")}.get(mode, ()):
        reader.text(key, is_required=key.removesuffix("_file") not in (secrets or {}))
    for key in FILES:
        path = reader.text(key)
        if path and not Path(path).is_absolute():
            raise reader.fault(key, "not_absolute", "must be an absolute path")
        if path:
            path_below(f"/connection/auth/{key}", path, setting="PILOTHOUSE_TOKEN_ROOTS")
    reader.text("context")
    server = reader.text("server")
    if server:
        _check_server(reader, server)
    reader.end()
    for key in _BELONGS.keys() - set(_OF_MODE[mode]):
        if reader.has(key):
            raise reader.fault(key, "contradiction", f"belongs to mode {_BELONGS[key]}, not to {mode}; leave it out")
    return dict(connection.get("auth", {}))


def check_files(auth: Mapping[str, Any], secrets: Mapping[str, Any] | None = None) -> None:
    """That the named files can be read and hold what they should: said when a target is connected, beside the field.

    Raises InvalidInput. Nothing that stands in a file is repeated.
    """
    mode = auth.get("mode", "in_cluster")
    for key in FILES:
        if key in _OF_MODE[mode] and auth.get(key) and not os.access(auth[key], os.R_OK):
            raise _file_fault(key, "unreadable", f"There is no readable file {auth[key]}; web and workers read it.")
    if mode == "token" and auth.get("token_file") and not Path(auth["token_file"]).read_bytes().strip():
        raise _file_fault("token_file", "empty", f"{auth['token_file']} is empty; put the token there.")
    if mode == "kubeconfig":
        _check_kubeconfig(auth, secrets or {})


def _check_kubeconfig(auth: Mapping[str, Any], secrets: Mapping[str, Any]) -> None:
    if "kubeconfig" in secrets:
        document = kubeconfig_of(secrets["kubeconfig"])
        _refuse_programs(document, "/credentials/kubeconfig")
    else:
        place = auth["kubeconfig_file"]
        try:
            document = yaml.safe_load(Path(place).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise _file_fault("kubeconfig_file", "bad_kubeconfig", f"{place} is no YAML: {_plain(error)}.") from error
        _refuse_programs(document)
    contexts = [str(item.get("name")) for item in document.get("contexts") or () if isinstance(item, Mapping)]
    wanted = auth.get("context") or document.get("current-context")
    if wanted not in contexts:
        named = ", ".join(contexts) or "none"
        raise _file_fault("context", "unknown", f"The kubeconfig has no context {wanted!r}; there are: {named}.")


def _check_server(reader: Reader, server: str) -> None:
    parts = urlsplit(server)
    if parts.scheme != "https" or not parts.hostname:
        raise reader.fault("server", "bad_url", "must be an https:// address: a token goes over it")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise reader.fault("server", "bad_url", "must hold no credentials and no query: the token has its own file")


def _file_fault(key: str, code: str, detail: str) -> InvalidInput:
    return InvalidInput.at(f"/connection/auth/{key}", code, detail)


def _plain(error: Exception) -> str:
    """What went wrong, without the text around it: a parser quotes the file, and the file holds secrets."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}, column {mark.column + 1} cannot be read" if mark else type(error).__name__


def configure(auth: Mapping[str, Any], secrets: Mapping[str, Any] | None = None) -> client.Configuration:
    """A client configuration, read anew from its files. Raises DriverError (retryable) when they cannot be read."""
    found, secrets = client.Configuration(), secrets or {}
    mode = auth.get("mode", "in_cluster")
    try:
        if mode == "in_cluster":
            load_incluster_config(client_configuration=found)
        elif mode == "kubeconfig":
            text = secrets.get("kubeconfig") or Path(auth["kubeconfig_file"]).read_text(encoding="utf-8")
            document = yaml.safe_load(text)
            _hold_programs(document)
            load_kube_config_from_dict(document, context=auth.get("context") or None, client_configuration=found)
        else:
            token = (secrets.get("token") or Path(auth["token_file"]).read_text(encoding="utf-8")).strip()
            _with_token(found, auth, token, secrets.get("ca", ""))
    except (OSError, ConfigException, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        where = next((str(auth[key]) for key in FILES if auth.get(key)), "the service account of this pod")
        detail = f"The credentials of this target cannot be read from {where}: {_plain(error)}."
        raise DriverError("credentials_unreadable", detail, is_retryable=True) from error
    found.connection_pool_maxsize = 32  # streams of the watch hold theirs; calls need some beside them
    found.retries = False  # ours say why and how long; two layers of retries multiply
    return found


def _with_token(found: client.Configuration, auth: Mapping[str, Any], token: str, authority: str) -> None:
    if authority:
        # the client takes an authority from a file only; its own loader makes one, and removes it when we end
        data = base64.b64encode(authority.encode()).decode()
        cluster = {"server": auth["server"], "certificate-authority-data": data}
        named = {"clusters": [{"name": "it", "cluster": cluster}], "users": [{"name": "it", "user": {}}]}
        contexts = [{"name": "it", "context": {"cluster": "it", "user": "it"}}]
        load_kube_config_from_dict({**named, "contexts": contexts}, context="it", client_configuration=found)
    else:
        found.host = auth["server"]
        found.ssl_ca_cert = auth.get("ca_file") or None
    found.api_key = {"BearerToken": f"Bearer {token}"}  # api_key_prefix is looked up under a name that varies


def _hold_programs(document: Any) -> None:
    """The same refusal once the target is connected: a fault of the target then, not of what somebody sends."""
    try:
        _refuse_programs(document)
    except InvalidInput as error:
        raise DriverError(error.code, error.detail) from error


def _refuse_programs(document: Any, pointer: str = "/connection/auth/kubeconfig_file") -> None:
    """A kubeconfig may name a program that is run to get a token: whoever writes the file would run code here."""
    if not isinstance(document, Mapping):
        raise InvalidInput.at(pointer, "bad_kubeconfig", "The kubeconfig is no YAML object.")
    if settings.PILOTHOUSE_KUBECONFIG_PROGRAMS:
        return
    for entry in document.get("users") or ():
        user = entry.get("user") if isinstance(entry, Mapping) else None
        if not isinstance(user, Mapping):
            continue
        if "exec" in user or "auth-provider" in user:
            raise InvalidInput.at(
                pointer,
                "program_refused",
                f"User {entry.get('name')!r} of the kubeconfig runs a program to sign in. Use a service account's "
                "token, or have an operator allow such programs (PILOTHOUSE_KUBECONFIG_PROGRAMS).",
            )
