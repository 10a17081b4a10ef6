"""Endpoints belong to the team of their model."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("accounts", "0003_default_team"),
        ("registry", "0005_model_team"),
        ("targets", "0002_endpoint_due"),
    ]

    operations = [
        migrations.AddField(
            "endpoint",
            "team",
            models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.team"
            ),
        ),
        migrations.RunSQL(
            "UPDATE targets_endpoint e SET team_id = m.team_id FROM registry_model m WHERE m.id = e.model_id",
            migrations.RunSQL.noop,
        ),
        # a foreign key filled above has trigger events waiting; they are settled before the table is altered
        migrations.RunSQL("SET CONSTRAINTS ALL IMMEDIATE", "SET CONSTRAINTS ALL IMMEDIATE"),
        migrations.AlterField(
            "endpoint",
            "team",
            models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.team"),
        ),
    ]
