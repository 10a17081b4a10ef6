"""Where everything is. Pages at the root, the API under /api/v1, probes beside them."""

from __future__ import annotations

from django.urls import include, path
from django.views.generic import RedirectView

from controlplane import health, home, palette

urlpatterns = [
    path("", home.fleet, name="fleet"),
    path("_fleet/", home.fleet_rows, name="fleet_rows"),
    path("_find/", palette.found, name="palette"),
    path("_waiting/", home.waiting, name="waiting"),
    path("", include("apps.accounts.web.urls")),
    path("", include("apps.accounts.web.allauth_urls")),
    path("models/", include("apps.registry.web.urls")),
    path("endpoints/", include("apps.targets.web.urls")),
    path("endpoints/", include("apps.slo.web.urls")),
    path("endpoints/", include("apps.telemetry.web.urls")),
    path("alerts/", include("apps.alerts.web.incident_urls")),
    path("settings/alerting/", include("apps.alerts.web.alerting_urls")),
    path("settings/webhooks/", include("apps.alerts.web.urls")),
    path("settings/", include("apps.targets.web.settings_urls")),
    path("rollouts/", include("apps.rollouts.web.urls")),
    path("experiments/", include("apps.experiments.web.urls")),
    path("reviews/", include("apps.reviews.web.urls")),
    path("audit/", include("controlplane.audit_urls")),
    path("", include("apps.registry.api.mlflow.urls")),
    path("api/v1/", include("controlplane.api_urls")),
    path("livez", health.livez, name="livez"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", health.metrics, name="metrics"),
    path("favicon.ico", RedirectView.as_view(url="/static/favicon.svg", permanent=True)),
]

handler400 = "controlplane.faults.malformed"
handler403 = "controlplane.faults.forbidden"
handler404 = "controlplane.faults.unknown_address"
handler500 = "controlplane.faults.broken"
