"""What a page of models shows is remembered under the model row's ``xmin``, so every change of what it shows touches
that row; and indexes that no query needs are dropped.

A new version touches it by taking its number. The triggers see to the rest: versions that change, tags, aliases. The
dropped indexes: the foreign key's own beside ``version_number_once`` that begins with the same column, and those that
Django adds to a text key for LIKE, which nobody asks of an id.
"""

import django.db.models.deletion
from django.db import migrations, models

TOUCH = """
CREATE FUNCTION registry_touch_by_model() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE registry_model m SET updated_at = m.updated_at
     WHERE m.id IN (SELECT r.model_id FROM changed r) AND m.xmin::text <> pg_current_xact_id()::xid::text;
    RETURN NULL;
END
$$;
CREATE FUNCTION registry_touch_by_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE registry_model m SET updated_at = m.updated_at
      FROM registry_modelversion v
     WHERE v.id IN (SELECT r.version_id FROM changed r) AND m.id = v.model_id
       AND m.xmin::text <> pg_current_xact_id()::xid::text;
    RETURN NULL;
END
$$;
"""
NO_TOUCH = "DROP FUNCTION registry_touch_by_model(); DROP FUNCTION registry_touch_by_version();"
WATCHED = (
    ("registry_modelversion", "model", ("UPDATE", "DELETE")),
    ("registry_modeltag", "model", ("INSERT", "UPDATE", "DELETE")),
    ("registry_alias", "model", ("INSERT", "UPDATE", "DELETE")),
    ("registry_versiontag", "version", ("INSERT", "UPDATE", "DELETE")),
)
TRIGGERS = "".join(
    f"""
CREATE TRIGGER {table}_touch_{event.lower()} AFTER {event} ON {table}
    REFERENCING {"OLD" if event == "DELETE" else "NEW"} TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION registry_touch_by_{by}();
"""
    for table, by, events in WATCHED
    for event in events
)
NO_TRIGGERS = "".join(
    f"DROP TRIGGER {table}_touch_{event.lower()} ON {table};" for table, _, events in WATCHED for event in events
)
UNASKED = """
DO $$
DECLARE one record;
BEGIN
    FOR one IN SELECT indexname FROM pg_indexes
                WHERE schemaname = current_schema()
                  AND (indexname LIKE '%\\_like' AND tablename IN
                       ('registry_model', 'registry_modelversion', 'registry_alias')
                       OR indexname LIKE 'registry\\_modelversion\\_model\\_id\\_%')
    LOOP
        EXECUTE format('DROP INDEX %I', one.indexname);
    END LOOP;
END
$$;
"""


class Migration(migrations.Migration):
    dependencies = [("registry", "0007_version_image")]
    operations = [
        # By name: altering the field would drop every index on this column alone, the one that holds "one version in
        # Production" among them.
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    "modelversion",
                    "model",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="versions",
                        to="registry.model",
                    ),
                )
            ]
        ),
        migrations.RunSQL(UNASKED, migrations.RunSQL.noop),
        migrations.RunSQL(TOUCH, NO_TOUCH),
        migrations.RunSQL(TRIGGERS, NO_TRIGGERS),
    ]
