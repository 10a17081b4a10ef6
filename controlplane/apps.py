from django.apps import AppConfig


class ControlPlaneConfig(AppConfig):
    name = "controlplane"

    def ready(self) -> None:
        from apps.alerts.services.places import health_register, places_register
        from apps.alerts.services.sources import sources_register
        from apps.kernel import logs
        from controlplane import alert_sources, checks, checks_places, places  # noqa: F401

        logs.configure()
        places_register(places.PLACES)
        health_register(places.endpoint_healths)
        sources_register(alert_sources.SOURCES)
