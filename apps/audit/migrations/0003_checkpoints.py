"""Hash version and actor chain of an entry; signed checkpoints; the function that appends in one statement.

Adding a column with a default fires no trigger and touches no row: entries that exist keep version 1 and their hash.
"""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

DEFAULTS = """
ALTER TABLE audit_event ALTER COLUMN version SET DEFAULT 1;
ALTER TABLE audit_event ALTER COLUMN actor_chain SET DEFAULT '[]'::jsonb;
"""
NO_DEFAULTS = """
ALTER TABLE audit_event ALTER COLUMN version DROP DEFAULT;
ALTER TABLE audit_event ALTER COLUMN actor_chain DROP DEFAULT;
"""
# 1. the lock of the chain's tail, until the transaction ends; 2. a new statement, so a snapshot that sees whoever held
# the lock before (READ COMMITTED; under a stricter level the primary key refuses the second writer); 3. link; 4. insert.
APPEND = """
CREATE FUNCTION audit_append(
    p_version smallint, p_at timestamptz, p_actor_kind text, p_actor_id text, p_actor_label text, p_actor_chain jsonb,
    p_verb text, p_subject_kind text, p_subject_id text, p_subject_label text, p_detail jsonb, p_request_id text,
    p_body_hash text, OUT new_seq bigint, OUT old_hash text, OUT new_hash text
) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF p_version <> 2 THEN
        RAISE EXCEPTION 'audit_append writes entries of hash version 2, not %', p_version;
    END IF;
    PERFORM pg_advisory_xact_lock(1346980943);
    SELECT e.seq + 1, e.hash INTO new_seq, old_hash FROM audit_event e ORDER BY e.seq DESC LIMIT 1;
    IF new_seq IS NULL THEN
        new_seq := 1;
        old_hash := 'sha256:' || repeat('0', 64);
    END IF;
    new_hash := 'sha256:' || encode(sha256(convert_to(
        'pilothouse-audit/2' || chr(10) || new_seq || chr(10) || old_hash || chr(10) || p_body_hash, 'UTF8')), 'hex');
    INSERT INTO audit_event (seq, version, at, actor_kind, actor_id, actor_label, actor_chain, verb, subject_kind,
                             subject_id, subject_label, detail, request_id, prev_hash, hash)
    VALUES (new_seq, p_version, p_at, p_actor_kind, p_actor_id, p_actor_label, p_actor_chain, p_verb, p_subject_kind,
            p_subject_id, p_subject_label, p_detail, p_request_id, old_hash, new_hash);
END
$$;
"""
NO_APPEND = """
DROP FUNCTION audit_append(smallint, timestamptz, text, text, text, jsonb, text, text, text, text, jsonb, text, text);
"""
GUARDED = ("audit_checkpoint", "audit_checkpointkey")
GUARD = "".join(
    f"""
CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION audit_event_refuse();
CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION audit_event_refuse();
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_append_only;
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_no_truncate;
"""
    for table in GUARDED
)
NO_GUARD = "".join(
    f"DROP TRIGGER {table}_no_truncate ON {table}; DROP TRIGGER {table}_append_only ON {table};" for table in GUARDED
)


class Migration(migrations.Migration):
    dependencies = [("audit", "0002_append_only")]
    operations = [
        migrations.AddField("event", "version", models.SmallIntegerField(default=1)),
        migrations.AddField("event", "actor_chain", models.JSONField(default=list)),
        migrations.RunSQL(DEFAULTS, NO_DEFAULTS),
        migrations.AddIndex("event", models.Index(fields=["actor_label", "seq"], name="audit_by_actor")),
        migrations.AddIndex("event", models.Index(fields=["verb", "seq"], name="audit_by_verb")),
        migrations.AddIndex(
            "event",
            models.Index(
                fields=["request_id"],
                name="audit_by_request",
                condition=models.Q(("request_id", ""), _negated=True),
            ),
        ),
        migrations.AddIndex("event", models.Index(fields=["at"], name="audit_by_time")),
        migrations.RunSQL(APPEND, NO_APPEND),
        migrations.CreateModel(
            name="Checkpoint",
            fields=[
                ("number", models.BigIntegerField(primary_key=True, serialize=False)),
                ("seq", models.BigIntegerField()),
                ("hash", models.CharField(max_length=71)),
                ("at", models.DateTimeField()),
                ("prev", models.CharField(max_length=71)),
                ("key_id", models.CharField(max_length=40)),
                ("signature", models.CharField(max_length=100)),
            ],
            options={
                "ordering": ("number",),
                "indexes": [models.Index(fields=["seq"], name="audit_checkpoint_by_seq")],
            },
        ),
        migrations.CreateModel(
            name="CheckpointKey",
            fields=[
                ("key_id", models.CharField(max_length=40, primary_key=True, serialize=False)),
                ("public", models.CharField(max_length=64)),
                ("created_at", models.DateTimeField()),
            ],
            options={"ordering": ("created_at", "key_id")},
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                (
                    "checkpoint",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="delivery",
                        serialize=False,
                        to="audit.checkpoint",
                    ),
                ),
                ("sink", models.CharField(max_length=500)),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("last_error", models.TextField(blank=True, default="")),
                ("due_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("delivered_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "indexes": [
                    models.Index(
                        fields=["due_at"], name="audit_delivery_due", condition=models.Q(("delivered_at__isnull", True))
                    )
                ]
            },
        ),
        migrations.CreateModel(
            name="ChainState",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("head_seq", models.BigIntegerField(default=0)),
                ("head_hash", models.CharField(default="", max_length=71)),
                ("head_version", models.SmallIntegerField(default=1)),
                ("verified_at", models.DateTimeField(blank=True, null=True)),
                ("rescan_seq", models.BigIntegerField(default=0)),
                ("rescan_hash", models.CharField(default="", max_length=71)),
                ("rescan_version", models.SmallIntegerField(default=1)),
                ("rescanned_at", models.DateTimeField(blank=True, null=True)),
                ("first_bad", models.BigIntegerField(blank=True, null=True)),
                ("reason", models.TextField(blank=True, default="")),
                ("broken_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="audit_one_chain_state")]
            },
        ),
        migrations.RunSQL(GUARD, NO_GUARD),
    ]
