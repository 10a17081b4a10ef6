from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rollouts", "0006_experiment_steps")]

    operations = [
        migrations.AddField("rollout", "warm_until", models.DateTimeField(blank=True, null=True)),
        migrations.AddIndex(
            "rollout",
            models.Index(condition=models.Q(("warm_until__isnull", False)), fields=["warm_until"], name="rollout_warm"),
        ),
    ]
