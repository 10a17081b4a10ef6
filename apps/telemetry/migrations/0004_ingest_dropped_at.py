from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("telemetry", "0003_intake"),
    ]

    operations = [
        migrations.AddField(
            model_name="ingestsource",
            name="dropped_at",
            field=models.DateTimeField(null=True),
        ),
    ]
