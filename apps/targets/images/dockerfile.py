"""The Dockerfile of a model version. Pure; held by golden files in tests/images."""

from __future__ import annotations

import json

from apps.targets.images.spec import MODEL_FOLDER, PORT, UID, ImageSpec, ModelFrom

MOUNTED_KEY = "pilothouse_token"  # the name of the build's secret
READY = f"http://127.0.0.1:{PORT}/v2/health/ready"
_HEALTH = f"import urllib.request as u; u.urlopen('{READY}', timeout=4)"


def dockerfile(spec: ImageSpec) -> str:
    """Two stages: packages and model are put together in the first, the second holds what runs, as a user without
    rights. No credential is in a layer, an argument or the environment: the build's secret is a file that is mounted
    for one step."""
    return "\n".join([*_head(spec), "", *_build(spec), "", *_final(spec)]) + "\n"


def _head(spec: ImageSpec) -> list[str]:
    # the first line is ours: a model called "escape=…" must not become a directive of the parser
    return [
        "# Made by Pilothouse.",
        f"# {_plain(spec.model)} {_plain(spec.version)}, artifact {spec.digest}",
        f"ARG BASE={spec.base}",
    ]


def _build(spec: ImageSpec) -> list[str]:
    lines = [
        "FROM ${BASE} AS build",
        "WORKDIR /build",
        "RUN python -m venv /venv",
        "COPY requirements/ requirements/",
        "# The server's packages by their hashes, then the model's in the versions that it names.",
        "RUN /venv/bin/pip install --no-cache-dir --require-hashes -r requirements/serving.lock",
        "RUN /venv/bin/pip install --no-cache-dir -r requirements/model.txt -c requirements/constraints.txt \\",
        " && /venv/bin/pip check",
    ]
    return [*lines, "COPY serving/ serving/", "COPY serving.json ./", *_model(spec)]


def _model(spec: ImageSpec) -> list[str]:
    """The model's files, compared with the digest; then, whatever modes all files came with, root writes and everybody
    reads."""
    readable = "chmod -R a+rX,go-w /build"
    if spec.model_from is ModelFrom.LATER:
        return [f"RUN {readable}"]
    check, readable = f"--digest {spec.digest} --to {MODEL_FOLDER}", f" && {readable} {MODEL_FOLDER}"
    if spec.model_from is ModelFrom.FOLDER:
        return [f"COPY model/ {MODEL_FOLDER}/", f"RUN python -m serving.fetch --check {check} \\", readable]
    return [
        f"ARG PILOTHOUSE_URL={spec.url}",
        f"RUN --mount=type=secret,id={MOUNTED_KEY},required=true \\",
        f"    python -m serving.fetch {check} \\",
        f'    --url "$PILOTHOUSE_URL" --token-file /run/secrets/{MOUNTED_KEY} \\',
        readable,
    ]


def _final(spec: ImageSpec) -> list[str]:
    has_model = spec.model_from is not ModelFrom.LATER
    command = ["python", "-m", "serving", "--config", "/etc/pilothouse/serving.json", "--instance", "container"]
    labels = {
        "org.opencontainers.image.title": spec.model,
        "org.opencontainers.image.version": spec.version,
        "io.pilothouse.artifact-digest": spec.digest,
    }
    return [
        "FROM ${BASE}",
        f"RUN groupadd --gid {UID} serving && useradd --uid {UID} --gid {UID} --no-create-home serving",
        "COPY --from=build /venv /venv",
        *([f"COPY --from=build {MODEL_FOLDER} {MODEL_FOLDER}"] if has_model else [f"RUN mkdir {MODEL_FOLDER}"]),
        "COPY --from=build /build/serving.json /etc/pilothouse/serving.json",
        "WORKDIR /srv",
        "COPY --from=build /build/serving serving",
        "ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 \\",
        "    OPENBLAS_NUM_THREADS=1",
        *(f"LABEL {name}={_quoted(value)}" for name, value in labels.items()),
        f"USER {UID}:{UID}",
        f"EXPOSE {PORT}",
        f"HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD {json.dumps(['python', '-c', _HEALTH])}",
        f"CMD {json.dumps(command)}",
    ]


def _plain(text: str) -> str:
    """One line without control characters: a name must not become an instruction."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _quoted(text: str) -> str:
    """As LABEL takes it, with nothing in it substituted."""
    escaped = _plain(text).replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'
