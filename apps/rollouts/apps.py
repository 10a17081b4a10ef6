from django.apps import AppConfig


class RolloutsConfig(AppConfig):
    name = "apps.rollouts"
    label = "rollouts"

    def ready(self) -> None:
        # models are loaded by now, and not before
        from apps.rollouts.services.under_way import rollouts_under_way
        from apps.targets.services.under_way import under_way_announce

        under_way_announce(rollouts_under_way)
