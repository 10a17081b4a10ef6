from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rollouts", "0002_look_error")]

    operations = [
        migrations.AddField("rollout", "starters", models.JSONField(default=list)),
        migrations.AddField("rollout", "promotion_id", models.CharField(blank=True, default="", max_length=40)),
    ]
