"""The index that Django adds to a unique text for LIKE: nobody asks a hash for its beginning, and every entry paid it."""

from django.db import migrations

DROP = """
DO $$
DECLARE one record;
BEGIN
    FOR one IN SELECT indexname FROM pg_indexes
                WHERE schemaname = current_schema() AND indexname LIKE 'audit\\_event\\_hash\\_%\\_like'
    LOOP
        EXECUTE format('DROP INDEX %I', one.indexname);
    END LOOP;
END
$$;
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0003_checkpoints")]
    operations = [migrations.RunSQL(DROP, migrations.RunSQL.noop)]
