from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("targets", "0008_endpoint_traffic_holder")]

    operations = [
        migrations.AddField(
            model_name="target",
            name="revision",
            field=models.PositiveBigIntegerField(default=1),
        ),
    ]
