"""One row per operation of /api/v1: a call that succeeds, and what its object belongs to.

What each caller gets is derived from the action that the view declares and the table of roles (test_matrix.py). A row
says only what neither of them can know. ``{names}`` in paths and bodies are objects of the matrix's world.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Place = Literal["", "team", "environment", "wide"]


@dataclass(frozen=True)
class Row:
    """``ok``: the status of whoever has the right.

    ``place``: what the object belongs to. ``""`` none (or a list, which shows only what one may see), ``team``,
    ``environment`` (a team and an environment), ``wide``: to everybody, so a right in one team is not enough.
    ``action``: the right that the service asks for where the door asks for less; ``denied`` what one gets without it.
    ``narrow``: the status of a role that holds in one environment only, where the team as a whole is changed.
    ``unseen``: the status for another team's, where a body names the team and not a path.
    ``key``: the status of a key where it differs from a person's. ``roles``: the status of one role where it differs.
    """

    method: str
    path: str
    ok: int
    body: Any = None
    place: Place = ""
    action: str = ""
    denied: int = 403
    key: int = 0
    narrow: int = 0
    unseen: int = 404
    roles: Mapping[str, int] = field(default_factory=dict)
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


SEEN = {"reason": "a test", "expected_revision": 1, "expected_step": -1}
SAFE = {"reason": "a test"}
START = {"endpoint": "{endpoint}", "version": "1.1.0", "profile": "fast"}
REVISION = {"reason": "a test", "expected_revision": 1}
SEQUENCE_START = {"version": "1.1.0", "profile": "fast", "waves": [{"endpoints": ["{endpoint}"]}]}
SEQUENCE = "rollout-sequences/{sequence}"
DECISION = {
    "verdict": "comment",
    "reason": "a test",
    "expected_revision": 1,
    "plan_hash": "{plan_hash}",
    "evidence_hash": "{evidence_hash}",
}
TRUST = {
    "label": "nightly",
    "service": "{service}",
    "provider": "github",
    "issuer": "https://token.actions.githubusercontent.com",
    "audience": "https://pilothouse.example.com",
    "repository_id": "42",
    "ref": "refs/heads/main",
    "roles": ["engineer"],
}
HOOK = {"name": "chat", "url": "https://hooks.example.com/x", "events": ["rollout.promoted"], "team": "{team}"}
HOOKS = "webhooks/{webhook}"
ALERT, CHANNELS = "alerts/{alert}", "alert-channels/{channel}"
CHANNEL = {"name": "chat", "kind": "webhook", "address": "https://hooks.example.com/x"}
MODEL, VERSION, ENDPOINT, ROLLOUT = (
    "models/{model}",
    "models/{model}/versions/1.0.0",
    "endpoints/{endpoint}",
    "rollouts/{rollout}",
)
EXPERIMENT = "experiments/{experiment}"
DESIGN = {
    "hypothesis": "It sells more.",
    "unit": "user",
    "weights_bp": {"control": 5000, "treatment": 5000},
    "metrics": [{"key": "conversion", "kind": "proportion", "event": "purchase"}],
    "primary": "conversion",
    "baseline": 0.2,
    "effect_relative": 0.25,
}
OBJECTIVE = "objectives/{objective}"
NEW_OBJECTIVE = {"name": "a", "kind": "availability", "target_ppm": 995_000}
NEW_EXPERIMENT = {"name": "ranking", "endpoint": "{endpoint}", "version": "1.1.0", "design": DESIGN}
DECIDE = {"kind": "ship", "readout": "{readout}"}
ONE_UNIT = {"units": ["u1"]}
ONE_EVENT = {"ids": ["e1"], "units": ["u1"], "events": ["purchase"]}

ROWS: dict[str, Row] = {
    # accounts
    "me_get": Row("get", "me", 200),
    "access_explain": Row("get", "access/explain?action=model.read", 200),
    "token_list": Row("get", "tokens", 200),
    "token_create": Row(  # a key makes no keys
        "post", "tokens", 201, {"label": "x", "roles": ["{role}"]}, key=403, roles={"none": 422}
    ),
    "token_revoke": Row("delete", "tokens/{token}", 200, place="team", action="token.write"),
    "token_rotate": Row(
        "post", "tokens/{token}/rotate", 201, place="team", action="token.write", denied=404, key=403
    ),
    "token_exchange": Row(
        "post", "auth/token-exchange", 400,
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=x"
        "&subject_token_type=urn:ietf:params:oauth:token-type:jwt",
        content_type="application/x-www-form-urlencoded",
    ),
    "person_list": Row("get", "people", 200),
    "person_create": Row("post", "people", 201, {"username": "newcomer"}),
    "person_get": Row("get", "people/{person}", 200, place="team"),
    "person_activate": Row("post", "people/{person}/activate", 200, place="team", narrow=404),
    "person_deactivate": Row("post", "people/{person}/deactivate", 200, place="team", narrow=404),
    "person_invite": Row("post", "people/{person}/invite", 201, place="team", narrow=404),
    "role_give": Row(
        "post", "people/{person}/roles", 201, {"role": "viewer", "team": "{team}"}, place="team", narrow=404
    ),
    "role_take": Row("delete", "people/{person}/roles/{membership}", 204, place="team", narrow=404),
    "service_list": Row("get", "services", 200),
    "service_create": Row("post", "services", 201, {"team": "{team}", "name": "ci-new"}, place="team", narrow=404),
    "team_list": Row("get", "teams", 200),
    "team_create": Row("post", "teams", 201, {"slug": "initech"}, place="wide"),
    "team_get": Row("get", "teams/{team}", 200, place="team"),
    "team_rename": Row("patch", "teams/{team}", 200, {"name": "Another"}, place="team", narrow=404),
    "ci_trust_list": Row("get", "ci-trusts", 200),
    "ci_trust_create": Row("post", "ci-trusts", 201, TRUST, place="team", narrow=404),
    "ci_trust_get": Row("get", "ci-trusts/{trust}", 200, place="team"),
    "ci_trust_revoke": Row("delete", "ci-trusts/{trust}", 200, place="team", narrow=404),
    # audit
    "audit_list": Row("get", "audit", 200, place="wide"),
    "audit_get": Row("get", "audit/1", 200, place="wide"),
    "audit_checkpoints": Row("get", "audit/checkpoints", 200, place="wide"),
    "audit_verify": Row("get", "audit/verify", 200, place="wide"),
    "audit_export": Row("get", "audit/export", 200, place="wide"),
    "audit_keys": Row("get", "audit/keys", 200),
    # reviews
    "review_list": Row("get", "reviews", 200),
    "review_get": Row("get", "reviews/{review}", 200, place="environment"),
    "review_decide": Row("post", "reviews/{review}/decisions", 200, DECISION, place="environment", key=403),
    "review_withdraw": Row(
        "post", "reviews/{review}/withdraw", 403, {"reason": "over", "expected_revision": 1}, place="environment"
    ),  # only whoever asked
    # registry
    "model_list": Row("get", "models", 200),
    "model_create": Row("post", "models", 201, {"name": "another"}),
    "model_get": Row("get", MODEL, 200, place="team"),
    "model_change": Row("patch", MODEL, 200, {"description": "x"}, place="team", headers={"If-Match": "*"}),
    "model_delete": Row(
        "delete", MODEL + "?reason=over", 422, place="team", headers={"If-Match": "*"}  # an endpoint runs it
    ),
    "model_tag_set": Row("put", MODEL + "/tags/owner", 200, {"value": "risk"}, place="team"),
    "model_tag_remove": Row("delete", MODEL + "/tags/owner", 204, place="team"),
    "version_list": Row("get", MODEL + "/versions", 200, place="team"),
    "version_search": Row("get", "versions?filter=version_number%20%3E%201", 200),
    "version_change": Row("patch", VERSION, 200, {"description": "x"}, place="team", headers={"If-Match": "*"}),
    "version_delete": Row(
        "delete", VERSION + "?reason=over", 422, place="team", headers={"If-Match": "*"}  # an endpoint runs it
    ),
    "version_stage": Row("put", VERSION + "/stage", 200, {"stage": "staging"}, place="team"),
    "version_tag_set": Row("put", VERSION + "/tags/a/b", 200, {"value": ""}, place="team"),
    "version_tag_remove": Row("delete", VERSION + "/tags/a/b", 204, place="team"),
    "alias_remove": Row("delete", MODEL + "/aliases/newest", 204, place="team"),
    "version_register": Row(
        "post", MODEL + "/versions", 201, {"version": "1.2.0", "path": "{artifact}"}, place="team"
    ),
    "version_get": Row("get", VERSION, 200, place="team"),
    "version_ingest": Row("post", VERSION + "/ingest", 422, {}, place="team"),  # its files are not below a source
    "version_compare": Row("get", MODEL + "/compare?stable=1.0.0&candidate=1.1.0", 200, place="team"),
    "version_card_get": Row("get", VERSION + "/card", 200, place="team"),
    "version_card_set": Row("put", VERSION + "/card", 200, {"card": "# What it is for"}, place="team"),
    "version_image_get": Row("get", VERSION + "/image", 200, place="team"),
    "version_image_record": Row("put", VERSION + "/image", 200, {"image": ""}, place="team"),
    "version_image_context": Row("get", VERSION + "/image/context", 200, place="team"),
    "version_image_build_list": Row("get", VERSION + "/image/builds", 200, place="team"),
    "version_image_build_start": Row(  # a fake target builds nothing
        "post", VERSION + "/image/builds", 422, {"target": "{target}"}, place="environment"
    ),
    "image_build_get": Row("get", "image-builds/{build}", 200, place="team"),
    "image_build_stop": Row("post", "image-builds/{build}/stop", 200, place="environment"),
    "model_protect": Row(
        "put", MODEL + "/protected-aliases", 200, {"aliases": ["champion"], "reason": "one is enough"}, place="team"
    ),
    "alias_move": Row("put", MODEL + "/aliases/newest", 200, {"version": "1.0.0"}, place="team"),
    "alias_at": Row("get", MODEL + "/aliases/newest", 200, place="team"),
    "alias_history": Row("get", MODEL + "/aliases/newest/moves", 200, place="team"),
    "promotion_list": Row("get", "promotions", 200),
    "promotion_get": Row("get", "promotions/{promotion}", 200, place="team"),
    "promotion_withdraw": Row("post", "promotions/{promotion}/withdraw", 403, {}, place="team"),  # only whoever asked
    "format_rule_list": Row("get", "format-rules", 200),
    "format_rule_set": Row(
        "put", "format-rules", 200, {"scope": "team", "name": "{team}", "allow_pickle": False, "reason": "x"},
        place="team",
    ),
    "import_list": Row("get", "imports", 200),
    "import_create": Row(
        "post", "imports", 201, {"url": "https://mlflow.example.com", "team": "{team}"}, place="team", unseen=422
    ),
    "import_get": Row("get", "imports/{import}", 200, place="team"),
    "import_run": Row("post", "imports/{import}/run", 202, place="team"),
    "import_stop": Row("post", "imports/{import}/stop", 200, place="team"),
    # webhooks
    "webhook_list": Row("get", "webhooks", 200),
    "webhook_create": Row("post", "webhooks", 201, HOOK, place="team"),
    "webhook_get": Row("get", HOOKS, 200, place="team"),
    "webhook_update": Row("patch", HOOKS, 200, {"state": "paused"}, place="team", headers={"If-Match": "*"}),
    "webhook_delete": Row("delete", HOOKS, 204, place="team", headers={"If-Match": "*"}),
    "webhook_rotate": Row("post", HOOKS + "/rotate", 201, place="team"),
    "webhook_test": Row("post", HOOKS + "/test", 202, place="team"),
    "webhook_delivery_list": Row("get", HOOKS + "/deliveries", 200, place="team"),
    "webhook_redeliver": Row("post", HOOKS + "/deliveries/{delivery}/redeliver", 202, place="team"),
    # alerts
    "alert_list": Row("get", "alerts", 200),
    "alert_get": Row("get", ALERT, 200, place="environment"),
    "alert_acknowledge": Row("post", ALERT + "/acknowledge", 200, REVISION, place="environment"),
    "alert_silence": Row("post", ALERT + "/silence", 200, {**REVISION, "seconds": 60}, place="environment"),
    "alert_resolve": Row("post", ALERT + "/resolve", 200, REVISION, place="environment"),
    "alert_notice_list": Row("get", ALERT + "/notices", 200, place="environment"),
    "alert_channel_list": Row("get", "alert-channels", 200),
    "alert_channel_create": Row("post", "alert-channels", 201, {**CHANNEL, "team": "{team}"}, place="team"),
    "alert_channel_get": Row("get", CHANNELS, 200, place="team"),
    "alert_channel_update": Row("patch", CHANNELS, 200, {"state": "paused"}, place="team", headers={"If-Match": "*"}),
    "alert_channel_delete": Row("delete", CHANNELS, 204, place="team", headers={"If-Match": "*"}),
    "alert_channel_test": Row("post", CHANNELS + "/test", 202, place="team"),
    "alert_channel_notice_list": Row("get", CHANNELS + "/notices", 200, place="team"),
    "alert_notice_resend": Row("post", CHANNELS + "/notices/{notice}/resend", 202, place="team"),
    "alert_route_list": Row("get", "alert-routes", 200),
    "alert_route_create": Row(
        "post", "alert-routes", 201, {"channels": ["{channel}"], "team": "{team}"}, place="team"
    ),
    "alert_route_delete": Row("delete", "alert-routes/{route}", 204, place="team"),
    "alert_receiver_list": Row("get", "alert-receivers", 200),
    "alert_receiver_create": Row("post", "alert-receivers", 201, {"name": "x", "team": "{team}"}, place="team"),
    "alert_receiver_update": Row("patch", "alert-receivers/{receiver}", 200, {"repeat_seconds": 3600}, place="team"),
    "alert_receiver_delete": Row("delete", "alert-receivers/{receiver}", 204, place="team"),
    "alert_receiver_rotate": Row("post", "alert-receivers/{receiver}/rotate", 201, place="team"),
    "alert_receive": Row(  # only the receiver's own token opens it
        "post", "alert-receivers/{receiver}/alertmanager", 401, {"version": "4", "alerts": []}
    ),
    # targets, endpoints, telemetry
    "target_list": Row("get", "targets", 200),
    "target_create": Row("post", "targets", 201, {"name": "there", "kind": "fake"}, place="wide"),
    "target_get": Row("get", "targets/{target}", 200),
    "target_update": Row(
        "patch", "targets/{target}", 200, {"no_traffic_policy": "probe"}, place="wide", headers={"If-Match": "*"}
    ),
    "target_change_check": Row("post", "targets/{target}/change", 200, {"no_traffic_policy": "probe"}, place="wide"),
    "target_probe": Row("post", "targets/{target}/probe", 200, place="wide"),
    "target_credentials_replace": Row(  # a fake target takes none
        "put", "targets/{target}/credentials", 422, {"credentials": {"token": "secret"}}, place="wide"
    ),
    "target_preflight": Row(
        "post", "targets/{target}/preflight", 200, {"endpoint": "{endpoint}", "version": "1.1.0"}, place="environment"
    ),
    "endpoint_list": Row("get", "endpoints", 200),
    "endpoint_create": Row(
        "post", "endpoints", 201,
        {"name": "another", "target": "{target}", "model": "{model}", "version": "1.0.0"}, place="environment",
    ),
    "endpoint_get": Row("get", ENDPOINT, 200, place="environment"),
    "endpoint_remove": Row(
        "delete", ENDPOINT + "?reason=over", 409, place="environment", headers={"If-Match": "*"}  # a rollout runs there
    ),
    "endpoint_change": Row(
        "patch", ENDPOINT, 200, {"follows": ""}, place="environment", headers={"If-Match": "*"}
    ),
    "endpoint_windows": Row("get", ENDPOINT + "/windows", 200, place="environment"),
    "telemetry_sources": Row("get", ENDPOINT + "/telemetry-sources", 200, place="environment"),
    "pull_sources": Row("get", ENDPOINT + "/pull-sources", 200, place="environment"),
    "pull_source_put": Row(
        "put", ENDPOINT + "/pull-sources/prometheus", 200, {"config": {"url": "https://prometheus.example"}},
        place="environment",
    ),
    "pull_source_remove": Row("delete", ENDPOINT + "/pull-sources/prometheus", 204, place="environment"),
    "inference_policy": Row("get", ENDPOINT + "/inference-policy", 200, place="environment"),
    "inference_policy_put": Row(
        "put", ENDPOINT + "/inference-policy", 200, {"redaction": {"tail": "hash"}}, place="environment"
    ),
    "inference_file_list": Row("get", ENDPOINT + "/inference-files", 200, place="environment"),
    "labels_upload": Row(
        "post", ENDPOINT + "/labels", 200, {"labels": [{"request_id": "r1", "value": 1}]}, place="environment"
    ),
    "variant_logs": Row("get", ENDPOINT + "/variants/v1-0-0/logs", 200, place="environment"),
    "freeze_list": Row("get", "freezes", 200),
    "freeze_create": Row(
        "post", "freezes", 201, {"ends_at": "2099-01-01T00:00:00Z", "reason": "x", "endpoint": "{endpoint}"},
        place="environment",
    ),
    "freeze_remove": Row("delete", "freezes/{freeze}?reason=x", 204, place="environment"),
    # objectives
    "objective_list": Row("get", ENDPOINT + "/objectives", 200, place="environment"),
    "objective_create": Row("post", ENDPOINT + "/objectives", 201, NEW_OBJECTIVE, place="environment"),
    "objective_get": Row("get", OBJECTIVE, 200, place="environment"),
    "objective_update": Row("patch", OBJECTIVE, 200, {"name": "b"}, place="environment", headers={"If-Match": "*"}),
    "objective_delete": Row("delete", OBJECTIVE, 204, place="environment", headers={"If-Match": "*"}),
    "objective_replay_new": Row(
        "post", ENDPOINT + "/objectives/replay", 200, {"objective": NEW_OBJECTIVE}, place="environment"
    ),
    "objective_replay": Row("post", OBJECTIVE + "/replay", 200, {}, place="environment"),
    "objective_profiles": Row("get", "objective-profiles", 200),
    "endpoint_burns": Row("get", ENDPOINT + "/burns", 200, place="environment"),
    "endpoint_prometheus_rules": Row("get", ENDPOINT + "/prometheus-rules", 200, place="environment"),
    # experiments: a draft, so that nothing of it runs
    "experiment_list": Row("get", "experiments", 200),
    "experiment_create": Row("post", "experiments", 201, NEW_EXPERIMENT, place="environment"),
    "experiment_size": Row(
        "post", "experiments/size", 200, {"endpoint": "{endpoint}", "design": DESIGN}, place="environment"
    ),
    "experiment_simulate": Row(
        "post", "experiments/simulate", 202, {"endpoint": "{endpoint}", "design": DESIGN}, place="environment"
    ),
    "study_get": Row("get", "studies/{study}", 200),
    "experiment_get": Row("get", EXPERIMENT, 200, place="environment"),
    "experiment_revise": Row("patch", EXPERIMENT, 200, {"name": "ranking 2"}, place="environment"),
    "experiment_plan": Row("post", EXPERIMENT + "/plan", 200, {}, place="environment"),
    "experiment_start": Row("post", EXPERIMENT + "/start", 409, {}, place="environment"),
    "experiment_stop": Row("post", EXPERIMENT + "/stop", 409, SAFE, place="environment"),
    "experiment_extend": Row("post", EXPERIMENT + "/extend", 409, {**SAFE, "minimum_days": 20}, place="environment"),
    "experiment_decide": Row("post", EXPERIMENT + "/decide", 409, DECIDE, place="environment"),
    "experiment_assign": Row("post", EXPERIMENT + "/assignments", 200, ONE_UNIT, place="environment"),
    "experiment_exposures": Row("post", EXPERIMENT + "/exposures", 409, ONE_UNIT, place="environment"),
    "experiment_outcomes": Row("post", EXPERIMENT + "/outcomes", 409, ONE_EVENT, place="environment"),
    "readout_list": Row("get", EXPERIMENT + "/readouts", 200, place="environment"),
    "readout_request": Row("post", EXPERIMENT + "/readouts", 409, {}, place="environment"),
    "endpoint_shadow": Row("get", ENDPOINT + "/shadow?variant=v1-1-0", 200, place="environment"),
    "readout_get": Row("get", "readouts/{readout}", 200, place="environment"),
    "readout_export": Row("get", "readouts/{readout}/export", 409, place="environment"),  # it waits to be computed
    "readout_table": Row("get", "readouts/{readout}/table", 409, place="environment"),
    "readout_bundle": Row("get", "readouts/{readout}/bundle", 409, place="environment"),
    # rollouts
    "rollout_list": Row("get", "rollouts", 200),
    # one is under way already
    "rollout_start": Row("post", "rollouts", 409, START, place="environment"),
    "rollout_get": Row("get", ROLLOUT, 200, place="environment"),
    "rollout_transitions": Row("get", ROLLOUT + "/transitions", 200, place="environment"),
    "rollout_pause": Row("post", ROLLOUT + "/pause", 409, SEEN, place="environment"),  # pending: nothing to pause
    "rollout_resume": Row("post", ROLLOUT + "/resume", 409, SEEN, place="environment"),
    "rollout_promote": Row("post", ROLLOUT + "/promote", 409, SEEN, place="environment"),
    "rollout_abort": Row("post", ROLLOUT + "/abort", 200, SAFE, place="environment"),
    "rollout_roll_back": Row("post", ROLLOUT + "/roll-back", 200, SAFE, place="environment"),
    "rollout_acknowledge": Row("post", ROLLOUT + "/acknowledge", 409, {}, place="environment"),  # it has not ended
    "rollout_retry": Row("post", ROLLOUT + "/retry", 409, SEEN, place="environment"),
    "rollout_sequence_list": Row("get", "rollout-sequences", 200),
    # one is under way already
    "rollout_sequence_start": Row("post", "rollout-sequences", 409, SEQUENCE_START, place="environment"),
    "rollout_sequence_get": Row("get", SEQUENCE, 200, place="environment"),
    "rollout_sequence_transitions": Row("get", SEQUENCE + "/transitions", 200, place="environment"),
    "rollout_sequence_pause": Row("post", SEQUENCE + "/pause", 200, REVISION, place="environment"),
    "rollout_sequence_resume": Row("post", SEQUENCE + "/resume", 409, REVISION, place="environment"),
    "rollout_sequence_continue": Row("post", SEQUENCE + "/continue", 409, REVISION, place="environment"),
    "rollout_sequence_abort": Row("post", SEQUENCE + "/abort", 200, SAFE, place="environment"),
}  # fmt: skip

# Operations whose app does not look at the object's team (and environment) yet, with what is missing. They are not
# skipped: a caller without the action is refused all the same, and a row that has become right fails until it is gone.
PENDING: dict[str, str] = {}
