"""An imported model remembers whether its files are still being brought, and which versions stayed without."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("registry", "0008_search_and_indexes")]

    operations = [
        migrations.AddField("importedmodel", "files_due_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("importedmodel", "files_attempts", models.PositiveIntegerField(default=0)),
        migrations.AddField("importedmodel", "files_left", models.JSONField(default=dict)),
        migrations.AddIndex(
            "importedmodel",
            models.Index(
                fields=["files_due_at"], condition=models.Q(files_due_at__isnull=False), name="imported_files_due"
            ),
        ),
    ]
