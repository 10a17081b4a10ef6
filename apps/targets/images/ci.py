"""Pipelines for the user's CI: build a version's image, push it, record it by its digest, start a rollout. Pure.

The job signs in by its own identity (docs/concepts/access.md, CI trusts): nothing is stored in the CI. A token from the
exchange lives 15 minutes and each identity is taken once, so what comes after the build signs in again.
"""

from __future__ import annotations

import json
from textwrap import indent
from urllib.parse import quote

from apps.targets.images.dockerfile import MOUNTED_KEY
from apps.targets.images.spec import ImageSpec, ModelFrom

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
IDENTITY = "urn:ietf:params:oauth:token-type:id_token"
HEADER = '-H @"$KEYS/header"'
"""curl reads the header from a file: an argument can be read by every process of the machine."""


def github(spec: ImageSpec, *, endpoint: str) -> str:
    """A workflow for GitHub Actions. It uses no action of anybody else, only the runner's curl, jq and docker."""
    repository = f"ghcr.io/OWNER/{spec.name}"
    return f"""\
# .github/workflows/image.yml: a CI trust of this repository's ref must name a service account that is an engineer.
name: {_expression_safe(f"Image of {spec.model}")}
on:
  workflow_dispatch:
    inputs:
      version:
        description: The version to build
        required: true
        default: {_expression_safe(spec.version)}
permissions:
  contents: read
  id-token: write
  packages: write
jobs:
  image:
    runs-on: ubuntu-24.04
    timeout-minutes: 60
    defaults:
      run:
        shell: bash
    env:
      PILOTHOUSE_URL: {json.dumps(spec.url)}
      MODEL: {json.dumps(quote(spec.model, safe=""))}
      VERSION: ${{{{ inputs.version }}}}
      ENDPOINT: {json.dumps(endpoint)}
      IMAGE: {repository}
    steps:
      - name: A way to sign in by the identity of this job
        run: |
{indent(_GITHUB_SIGN_IN, " " * 10)}
      - name: Build and push
        run: |
          "$RUNNER_TEMP/sign-in"
{indent(_build(spec, login=_GITHUB_LOGIN), " " * 10)}
      - name: Record the image, start the rollout
        run: |
          "$RUNNER_TEMP/sign-in"
{indent(_REGISTER, " " * 10)}
"""


def gitlab(spec: ImageSpec, *, endpoint: str) -> str:
    """Two jobs for GitLab CI: an identity is taken once, so the second job brings its own."""
    sign_in = indent(_GITLAB_SIGN_IN, " " * 6)
    return f"""\
# .gitlab-ci.yml: a CI trust of this project's ref must name a service account that is an engineer.
stages: [image, rollout]
variables:
  PILOTHOUSE_URL: {json.dumps(spec.url)}
  MODEL: {json.dumps(quote(spec.model, safe=""))}
  VERSION: {json.dumps(_variable_safe(spec.version))}
  ENDPOINT: {json.dumps(endpoint)}
  IMAGE: $CI_REGISTRY_IMAGE/{spec.name}
.signed-in:
  image: docker:28.5.1-cli
  id_tokens:
    IDENTITY:
      aud: {json.dumps(_variable_safe(spec.url))}
  rules:
    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH
      when: manual
  before_script:
    - apk add --no-cache curl jq
    - |
{sign_in}      umask 022
build-image:
  extends: .signed-in
  stage: image
  timeout: 1h
  services: [docker:28.5.1-dind]
  variables:
    DOCKER_TLS_CERTDIR: /certs
  script:
    - |
{indent(_build(spec, login=_GITLAB_LOGIN), " " * 6)}
      cp "$KEYS/image" image.env
  artifacts:
    reports:
      dotenv: image.env
    expire_in: 1 day
start-rollout:
  extends: .signed-in
  stage: rollout
  needs:
    - job: build-image
      artifacts: true
  script:
    - |
      printf 'EXACT=%s\\n' "$EXACT" > "$KEYS/image"
{indent(_REGISTER, " " * 6)}
"""


_EXCHANGE = f"""\
curl -fsS "$PILOTHOUSE_URL/api/v1/auth/token-exchange" \\
  --data-urlencode grant_type={GRANT} \\
  --data-urlencode subject_token_type={IDENTITY} \\
  --data-urlencode subject_token@"$KEYS/identity" | jq -er .access_token | tr -d '\\n' > "$KEYS/token"
printf 'Authorization: Bearer %s' "$(cat "$KEYS/token")" > "$KEYS/header"
"""

_GITHUB_SIGN_IN = f"""\
echo "KEYS=$RUNNER_TEMP/keys" >> "$GITHUB_ENV"
cat > "$RUNNER_TEMP/sign-in" <<'END'
#!/bin/bash
set -euo pipefail
umask 077
mkdir -p "$KEYS"
printf 'Authorization: Bearer %s' "$ACTIONS_ID_TOKEN_REQUEST_TOKEN" > "$KEYS/ask"
curl -fsS -H @"$KEYS/ask" -G "$ACTIONS_ID_TOKEN_REQUEST_URL" --data-urlencode "audience=$PILOTHOUSE_URL" \\
  | jq -er .value | tr -d '\\n' > "$KEYS/identity"
{_EXCHANGE}END
chmod 700 "$RUNNER_TEMP/sign-in"
"""

_GITLAB_SIGN_IN = f"""\
set -euo pipefail
export KEYS="$(mktemp -d)"
umask 077
printf '%s' "$IDENTITY" > "$KEYS/identity"
{_EXCHANGE}"""

_GITHUB_LOGIN = """\
printf '%s' "${{ secrets.GITHUB_TOKEN }}" | docker login ghcr.io --username "$GITHUB_ACTOR" --password-stdin
"""
_GITLAB_LOGIN = """\
printf '%s' "$CI_REGISTRY_PASSWORD" | docker login "$CI_REGISTRY" --username "$CI_REGISTRY_USER" --password-stdin
"""


def _build(spec: ImageSpec, *, login: str) -> str:
    query = "" if spec.model_from is ModelFrom.REGISTRY else f"?model_from={spec.model_from.value}"
    secret = f'--secret id={MOUNTED_KEY},src="$KEYS/token" ' if spec.model_from is ModelFrom.REGISTRY else ""
    model = "# put the model's files into context/model here\n" if spec.model_from is ModelFrom.FOLDER else ""
    return f"""\
mkdir -p context
curl -fsS {HEADER} "$PILOTHOUSE_URL/api/v1/models/$MODEL/versions/$VERSION/image/context{query}" | tar -xz -C context
{model}{login}docker buildx build {secret}--push --metadata-file "$KEYS/built.json" \\
  --tag "$IMAGE:$VERSION" context
digest=$(jq -er '."containerimage.digest"' "$KEYS/built.json")
printf 'EXACT=%s@%s\\n' "$IMAGE" "$digest" > "$KEYS/image"
"""


_REGISTER = f"""\
. "$KEYS/image"
U="$PILOTHOUSE_URL/api/v1"
curl -fsS -o /dev/null -X PUT {HEADER} -H 'Content-Type: application/json' \\
  "$U/models/$MODEL/versions/$VERSION/image" -d "$(jq -n --arg image "$EXACT" '{{image: $image}}')"
asked=$(jq -n --arg endpoint "$ENDPOINT" --arg version "$VERSION" '{{endpoint: $endpoint, version: $version}}')
hash=$(curl -fsS {HEADER} -H 'Content-Type: application/json' "$U/rollouts?dry_run=true" -d "$asked" \\
  | jq -er .plan_hash)
curl -fsS {HEADER} -H 'Content-Type: application/json' -H "Idempotency-Key: $EXACT" "$U/rollouts" \\
  -d "$(printf '%s' "$asked" | jq --arg hash "$hash" '. + {{expected_plan_hash: $hash}}')" | jq -r .id
"""


def _expression_safe(text: str) -> str:
    """As YAML for GitHub, which would evaluate ``${{ … }}`` in it."""
    return json.dumps(text.replace("${{", "${{ '${{' }}"), ensure_ascii=False)


def _variable_safe(text: str) -> str:
    """For GitLab, which would put variables in: ``$$`` is a dollar."""
    return text.replace("$", "$$")
