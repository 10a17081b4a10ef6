# Made by Pilothouse.
# late-arrival 1.1.0, artifact sha256:1111111111111111111111111111111111111111111111111111111111111111
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build
RUN python -m venv /venv
COPY requirements/ requirements/
# The server's packages by their hashes, then the model's in the versions that it names.
RUN /venv/bin/pip install --no-cache-dir --require-hashes -r requirements/serving.lock
RUN /venv/bin/pip install --no-cache-dir -r requirements/model.txt -c requirements/constraints.txt \
 && /venv/bin/pip check
COPY serving/ serving/
COPY serving.json ./
ARG PILOTHOUSE_URL=https://pilothouse.example.com
RUN --mount=type=secret,id=pilothouse_token,required=true \
    python -m serving.fetch --digest sha256:1111111111111111111111111111111111111111111111111111111111111111 --to /srv/model \
    --url "$PILOTHOUSE_URL" --token-file /run/secrets/pilothouse_token \
 && chmod -R a+rX,go-w /build /srv/model

FROM ${BASE}
RUN groupadd --gid 10001 serving && useradd --uid 10001 --gid 10001 --no-create-home serving
COPY --from=build /venv /venv
COPY --from=build /srv/model /srv/model
COPY --from=build /build/serving.json /etc/pilothouse/serving.json
WORKDIR /srv
COPY --from=build /build/serving serving
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1
LABEL org.opencontainers.image.title="late-arrival"
LABEL org.opencontainers.image.version="1.1.0"
LABEL io.pilothouse.artifact-digest="sha256:1111111111111111111111111111111111111111111111111111111111111111"
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/v2/health/ready', timeout=4)"]
CMD ["python", "-m", "serving", "--config", "/etc/pilothouse/serving.json", "--instance", "container"]
