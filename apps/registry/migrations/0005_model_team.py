"""Models belong to a team; what was there belongs to the default one."""

import django.db.models.deletion
from django.db import migrations, models


def give_default(apps, schema_editor):
    team, _ = apps.get_model("accounts", "Team").objects.get_or_create(slug="default", defaults={"name": "Default"})
    apps.get_model("registry", "Model")._base_manager.filter(team=None).update(team=team)


class Migration(migrations.Migration):

    dependencies = [
        ("accounts", "0003_default_team"),
        ("registry", "0004_artifacts_and_imports"),
    ]

    operations = [
        migrations.AddField(
            "model",
            "team",
            models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.team"
            ),
        ),
        migrations.RunPython(give_default, migrations.RunPython.noop),
        # a foreign key filled above has trigger events waiting; they are settled before the table is altered
        migrations.RunSQL("SET CONSTRAINTS ALL IMMEDIATE", "SET CONSTRAINTS ALL IMMEDIATE"),
        migrations.AlterField(
            "model",
            "team",
            models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.team"),
        ),
        migrations.RemoveField("model", "team_key"),
    ]
