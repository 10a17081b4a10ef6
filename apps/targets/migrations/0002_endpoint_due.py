from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("targets", "0001_initial")]

    operations = [
        migrations.RemoveIndex(model_name="endpoint", name="endpoint_due"),
        migrations.AddIndex(
            model_name="endpoint",
            index=models.Index(
                fields=["reconcile_due_at"],
                condition=~models.Q(applied_generation=models.F("generation")) | ~models.Q(apply_error=""),
                name="endpoint_due",
            ),
        ),
    ]
