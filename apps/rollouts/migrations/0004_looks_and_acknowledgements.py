from typing import Any

from django.db import migrations, models
from django.db.models import F


def nobody_is_asked_about_the_past(apps: Any, schema_editor: Any) -> None:
    """What went back before acknowledgements were kept is not put before people now."""
    rollouts = apps.get_model("rollouts", "Rollout").objects.using(schema_editor.connection.alias)
    went_back = rollouts.filter(phase__in=["rolled_back", "failed", "aborted"], finished_at__isnull=False)
    went_back.update(acknowledged_at=F("finished_at"))


class Migration(migrations.Migration):
    dependencies = [("rollouts", "0003_approvals")]

    operations = [
        migrations.AddField("rollout", "was_due_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("rollout", "acknowledged_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("rollout", "acknowledged_by", models.CharField(blank=True, default="", max_length=200)),
        migrations.RunPython(nobody_is_asked_about_the_past, migrations.RunPython.noop),
    ]
