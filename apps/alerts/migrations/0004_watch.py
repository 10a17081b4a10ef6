"""When somebody last looked whether anything is wrong."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("alerts", "0003_unheard")]

    operations = [
        migrations.CreateModel(
            name="Watch",
            fields=[
                ("name", models.CharField(max_length=20, primary_key=True, serialize=False)),
                ("at", models.DateTimeField()),
                ("since", models.DateTimeField()),
            ],
        ),
    ]
