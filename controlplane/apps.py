from django.apps import AppConfig


class ControlPlaneConfig(AppConfig):
    name = "controlplane"

    def ready(self) -> None:
        from apps.kernel import logs
        from controlplane import checks  # noqa: F401

        logs.configure()
