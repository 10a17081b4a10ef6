from django.db import migrations, models

STRATEGIES = ["canary", "blue_green", "shadow", "recreate", "ab"]


class Migration(migrations.Migration):
    dependencies = [("rollouts", "0005_waves")]

    operations = [
        migrations.AddField("rollout", "experiment_id", models.CharField(blank=True, default="", max_length=40)),
        migrations.RemoveConstraint("rollout", "rollout_strategy_known"),
        migrations.AddConstraint(
            "rollout",
            models.CheckConstraint(condition=models.Q(strategy__in=STRATEGIES), name="rollout_strategy_known"),
        ),
    ]
