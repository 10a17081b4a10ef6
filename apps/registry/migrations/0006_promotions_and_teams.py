"""What a protected alias moved by is kept with the move; webhooks belong to teams."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0003_default_team"),
        ("registry", "0005_model_team"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="promotionrequest",
            name="promotion_state_known",
        ),
        migrations.AddField(
            model_name="aliasmove",
            name="people",
            field=models.JSONField(default=list),
        ),
        migrations.AddField(
            model_name="aliasmove",
            name="review_id",
            field=models.CharField(blank=True, default="", max_length=40),
        ),
        migrations.AddField(
            model_name="aliasmove",
            name="rollout_id",
            field=models.CharField(blank=True, default="", max_length=40),
        ),
        migrations.AddField(
            model_name="promotionrequest",
            name="asked_people",
            field=models.JSONField(default=list),
        ),
        migrations.AddField(
            model_name="promotionrequest",
            name="rollout_id",
            field=models.CharField(blank=True, default="", max_length=40),
        ),
        migrations.AddField(
            model_name="webhook",
            name="team",
            field=models.ForeignKey(
                blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.team"
            ),
        ),
        migrations.AddConstraint(
            model_name="promotionrequest",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["open", "carried_out", "refused", "withdrawn", "voided"])),
                name="promotion_state_known",
            ),
        ),
    ]
