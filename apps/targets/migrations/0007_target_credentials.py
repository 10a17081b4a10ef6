from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("targets", "0006_image_build")]

    operations = [
        migrations.AddField(
            model_name="target",
            name="credentials",
            field=models.TextField(blank=True, default=""),
        ),
        migrations.AddField(
            model_name="target",
            name="credentials_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
