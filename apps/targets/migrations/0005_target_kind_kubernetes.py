from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("targets", "0004_endpoint_follows")]

    operations = [
        migrations.RemoveConstraint(model_name="target", name="target_kind_known"),
        migrations.AddConstraint(
            model_name="target",
            constraint=models.CheckConstraint(
                condition=models.Q(kind__in=["local", "fake", "kubernetes"]), name="target_kind_known"
            ),
        ),
    ]
