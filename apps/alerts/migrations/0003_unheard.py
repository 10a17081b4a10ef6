"""Alerts that an Alertmanager has stopped repeating come to an end."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("alerts", "0002_incidents")]

    operations = [
        migrations.AddField("incident", "heard_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("receiver", "repeat_seconds", models.PositiveIntegerField(db_default=14400, default=14400)),
        migrations.AddField("receiver", "attended_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("receiver", "listening_since", models.DateTimeField(blank=True, null=True)),
    ]
