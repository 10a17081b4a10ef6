from django.db import migrations

FREEZE = """
CREATE FUNCTION experiments_design_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status NOT IN ('draft', 'planned') AND (
        NEW.design IS DISTINCT FROM OLD.design OR NEW.design_hash IS DISTINCT FROM OLD.design_hash
        OR NEW.endpoint_id IS DISTINCT FROM OLD.endpoint_id OR NEW.tuned_total IS DISTINCT FROM OLD.tuned_total
        OR NEW.control_version_id IS DISTINCT FROM OLD.control_version_id
        OR NEW.treatment_version_id IS DISTINCT FROM OLD.treatment_version_id
        OR NEW.salt IS DISTINCT FROM OLD.salt OR NEW.arm_values IS DISTINCT FROM OLD.arm_values
    ) THEN
        RAISE EXCEPTION 'the design of experiment % is fixed since it has started', OLD.id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER experiments_design_frozen BEFORE UPDATE ON experiments_experiment
    FOR EACH ROW EXECUTE FUNCTION experiments_design_frozen();
"""
THAW = """
DROP TRIGGER experiments_design_frozen ON experiments_experiment;
DROP FUNCTION experiments_design_frozen();
"""


class Migration(migrations.Migration):
    dependencies = [("experiments", "0001_initial")]

    operations = [migrations.RunSQL(FREEZE, THAW)]
