"""Django adds an index for LIKE to every text key. No query asks these, and each look at a rollout wrote into six."""

from django.db import migrations

UNASKED = """
DO $$
DECLARE one record;
BEGIN
    FOR one IN SELECT indexname FROM pg_indexes
                WHERE schemaname = current_schema() AND indexname LIKE '%\\_like'
                  AND tablename IN ('rollouts_rollout', 'rollouts_transition')
    LOOP
        EXECUTE format('DROP INDEX %I', one.indexname);
    END LOOP;
END
$$;
"""


class Migration(migrations.Migration):
    dependencies = [("rollouts", "0007_keep_warm")]
    operations = [migrations.RunSQL(UNASKED, migrations.RunSQL.noop)]
