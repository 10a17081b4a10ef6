from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("targets", "0003_endpoint_team")]

    operations = [migrations.AddField("endpoint", "follows", models.CharField(blank=True, default="", max_length=255))]
