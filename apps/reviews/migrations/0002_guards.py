"""What no client may do, whatever the program says: change a question, reopen it, or decide on one's own.

The triggers fire always, for every role. A DELETE stays possible for nobody but who switches them off.
"""

from django.db import migrations

FORWARD = """
CREATE FUNCTION reviews_review_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'a review is never deleted' USING ERRCODE = 'restrict_violation';
    END IF;
    IF OLD.state <> 'open' THEN
        RAISE EXCEPTION 'review % is closed (%)', OLD.id, OLD.state USING ERRCODE = 'restrict_violation';
    END IF;
    IF (to_jsonb(OLD) - '{state,revision,closed_at,close_reason}'::text[])
       IS DISTINCT FROM (to_jsonb(NEW) - '{state,revision,closed_at,close_reason}'::text[]) THEN
        RAISE EXCEPTION 'what review % asks is frozen', OLD.id USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.state = 'approved' AND (
        SELECT count(*) FROM reviews_decision d WHERE d.review_id = NEW.id AND d.is_living AND d.verdict = 'approve'
            AND d.plan_hash = OLD.plan_hash AND d.evidence_hash = OLD.evidence_hash) < OLD.quorum THEN
        RAISE EXCEPTION 'review % has not enough approvals', OLD.id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER reviews_review_guard BEFORE UPDATE OR DELETE ON reviews_review
    FOR EACH ROW EXECUTE FUNCTION reviews_review_guard();
ALTER TABLE reviews_review ENABLE ALWAYS TRIGGER reviews_review_guard;

CREATE FUNCTION reviews_decision_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    r reviews_review%ROWTYPE;
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'a decision is never deleted' USING ERRCODE = 'restrict_violation';
    END IF;
    IF TG_OP = 'UPDATE' THEN
        IF NOT OLD.is_living OR (to_jsonb(OLD) - 'is_living') IS DISTINCT FROM (to_jsonb(NEW) - 'is_living') THEN
            RAISE EXCEPTION 'a decision is replaced, never changed' USING ERRCODE = 'restrict_violation';
        END IF;
    END IF;
    SELECT * INTO r FROM reviews_review WHERE id = NEW.review_id FOR UPDATE;
    IF r.state <> 'open' THEN
        RAISE EXCEPTION 'review % is closed (%)', r.id, r.state USING ERRCODE = 'restrict_violation';
    END IF;
    IF TG_OP = 'UPDATE' THEN
        RETURN NEW;
    END IF;
    IF NEW.verdict <> 'comment' AND r.four_eyes AND (
        r.barred ? NEW.person_id OR (r.requested_kind = 'user' AND r.requested_id = NEW.person_id)) THEN
        RAISE EXCEPTION 'four eyes: % may not decide on review %', NEW.person_label, r.id
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.plan_hash <> r.plan_hash OR NEW.evidence_hash <> r.evidence_hash THEN
        RAISE EXCEPTION 'this decision is about another plan or other evidence' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER reviews_decision_guard BEFORE INSERT OR UPDATE OR DELETE ON reviews_decision
    FOR EACH ROW EXECUTE FUNCTION reviews_decision_guard();
ALTER TABLE reviews_decision ENABLE ALWAYS TRIGGER reviews_decision_guard;
"""
REVERSE = """
DROP TRIGGER reviews_decision_guard ON reviews_decision;
DROP FUNCTION reviews_decision_guard();
DROP TRIGGER reviews_review_guard ON reviews_review;
DROP FUNCTION reviews_review_guard();
"""


class Migration(migrations.Migration):
    dependencies = [("reviews", "0001_initial")]
    operations = [migrations.RunSQL(FORWARD, REVERSE)]
