"""What was registered before is carried over, and the history of aliases refuses UPDATE and DELETE.

Versions were registered only after their files had been read: they are verified, and their bytes lie at their source.
Each alias gets the one entry of its history that is known: where it points now, since when.
"""

from django.db import migrations

FORWARD = """
UPDATE registry_modelversion SET trust = 'verified', storage_uri = source_uri, updated_at = created_at;
UPDATE registry_model SET updated_at = created_at;
INSERT INTO registry_aliasmove (model_id, name, from_version_id, to_version_id, at, moved_by, actor_kind, actor_id)
    SELECT model_id, name, NULL, version_id, moved_at, 'Pilothouse', 'system', 'pilothouse' FROM registry_alias;
-- the rows above have their foreign keys checked now: a table with checks waiting cannot be altered
SET CONSTRAINTS ALL IMMEDIATE;
CREATE FUNCTION registry_aliasmove_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the history of aliases is append-only: % is refused', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER registry_aliasmove_append_only BEFORE UPDATE OR DELETE ON registry_aliasmove
    FOR EACH STATEMENT EXECUTE FUNCTION registry_aliasmove_refuse();
ALTER TABLE registry_aliasmove ENABLE ALWAYS TRIGGER registry_aliasmove_append_only;
"""
REVERSE = """
DROP TRIGGER registry_aliasmove_append_only ON registry_aliasmove;
DROP FUNCTION registry_aliasmove_refuse();
"""


class Migration(migrations.Migration):
    dependencies = [("registry", "0002_the_registry")]
    operations = [migrations.RunSQL(FORWARD, REVERSE)]
