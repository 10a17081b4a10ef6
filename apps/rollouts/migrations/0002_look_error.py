from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rollouts", "0001_initial")]

    operations = [
        migrations.AddField("rollout", "look_failed_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("rollout", "look_error", models.TextField(blank=True, default="")),
        migrations.AddField("rollout", "asked", models.JSONField(blank=True, null=True)),
    ]
