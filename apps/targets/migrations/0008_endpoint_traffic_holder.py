from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("targets", "0007_target_credentials")]

    operations = [
        migrations.AddField(
            model_name="endpoint",
            name="traffic_holder",
            field=models.CharField(blank=True, default="", max_length=80),
        ),
    ]
