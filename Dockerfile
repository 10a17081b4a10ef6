# Pilothouse's control plane: web, worker, beat and observer are one image with different commands.
FROM python:3.11-slim-bookworm AS build
WORKDIR /build
RUN python -m venv /venv
COPY requirements/runtime.lock requirements/
RUN /venv/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.lock

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 pilothouse && useradd --uid 10001 --gid 10001 --home-dir /srv/pilothouse --create-home pilothouse
WORKDIR /srv/pilothouse
COPY --from=build /venv /venv
COPY manage.py pyproject.toml ./
COPY apps apps
COPY agent agent
COPY cli cli
COPY controlplane controlplane
COPY demo demo
COPY frontend frontend
COPY requirements/runtime.lock requirements/
COPY serving serving
COPY worker worker
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PILOTHOUSE_HOME=/var/lib/pilothouse
# artifacts/ and keys/ must exist here: a new volume takes its owner from the folder of the image that it is mounted on
RUN mkdir -p /var/lib/pilothouse/artifacts && mkdir -p /var/lib/pilothouse/keys && chown -R pilothouse:pilothouse /var/lib/pilothouse \
 && DATABASE_URL=postgresql://build/build REDIS_URL=redis://build PILOTHOUSE_SECRET_KEY=only-for-collectstatic-in-the-image-build-000 \
    PILOTHOUSE_INGEST_TOKEN=only-for-the-build-step python manage.py collectstatic --noinput \
 && chown -R pilothouse:pilothouse /var/lib/pilothouse
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-m", "controlplane.healthcheck", "http://127.0.0.1:8000/readyz"]
CMD ["uvicorn", "controlplane.asgi:application", "--host", "0.0.0.0", "--port", "8000", "--timeout-graceful-shutdown", "20"]
