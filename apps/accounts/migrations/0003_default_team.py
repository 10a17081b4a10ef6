"""What was there before teams belongs to the team ``default``; memberships without a team go on meaning every team."""

from django.db import migrations


def make_default(apps, schema_editor):
    apps.get_model("accounts", "Team").objects.get_or_create(slug="default", defaults={"name": "Default"})


class Migration(migrations.Migration):

    dependencies = [("accounts", "0002_teams_scopes_and_trusts")]

    operations = [migrations.RunPython(make_default, migrations.RunPython.noop)]
