"""What the API answers about the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from apps.audit.models import ChainState, Checkpoint, Delivery
from apps.audit.selectors import Filters, checkpoint_document
from apps.kernel.rest import PageQuery, StrictChar, StrictDateTime, StrictSerializer, iso


class FilterQuery(StrictSerializer):
    actor = StrictChar(required=False, max_length=200, help_text="A label, an id, or a link of the actor chain.")
    verb = StrictChar(required=False, max_length=64, help_text="A verb, or a prefix that ends in a dot: rollout.")
    subject = StrictChar(required=False, max_length=264, help_text="kind:id, kind:, an id or a label.")
    request_id = StrictChar(required=False, max_length=128)
    since = StrictDateTime(required=False, help_text="Inclusive.")
    until = StrictDateTime(required=False, help_text="Exclusive.")


class EventQuery(FilterQuery, PageQuery):
    pass


class PartySchema(serializers.Serializer[Any]):
    kind = serializers.CharField()
    id = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]


class ActorSchema(PartySchema):
    chain = serializers.ListField(child=serializers.CharField(), help_text="Who stands behind whom, the person first.")


class EventSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    seq = serializers.IntegerField()
    version = serializers.IntegerField(help_text="The rule that the hash follows.")
    at = serializers.DateTimeField()
    actor = ActorSchema()
    verb = serializers.CharField()
    subject = PartySchema()
    detail = serializers.JSONField()
    request_id = serializers.CharField(allow_blank=True)
    prev_hash = serializers.CharField()
    hash = serializers.CharField()


class DeliverySchema(serializers.Serializer[Any]):
    sink = serializers.CharField()
    attempts = serializers.IntegerField()
    last_error = serializers.CharField(allow_blank=True)
    delivered_at = serializers.DateTimeField(allow_null=True)


class CheckpointSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    number = serializers.IntegerField()
    seq = serializers.IntegerField()
    hash = serializers.CharField()
    at = serializers.DateTimeField()
    prev = serializers.CharField()
    key_id = serializers.CharField()
    signature = serializers.CharField()
    delivery = DeliverySchema(allow_null=True)


class KeySchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    key_id = serializers.CharField()
    algorithm = serializers.CharField()
    public = serializers.CharField(help_text="The raw key in base64.")
    created_at = serializers.DateTimeField()


class KeysSchema(serializers.Serializer[Any]):
    keys = KeySchema(many=True)


class ChainSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    state = serializers.CharField(help_text="intact, broken, or unread: not looked at yet.")
    verified_seq = serializers.IntegerField()
    verified_at = serializers.DateTimeField(allow_null=True)
    last_seq = serializers.IntegerField()
    rescan_seq = serializers.IntegerField(help_text="How far the present reading from the first entry is.")
    rescanned_at = serializers.DateTimeField(allow_null=True, help_text="When every entry had last been read.")
    first_bad = serializers.IntegerField(allow_null=True)
    reason = serializers.CharField(allow_blank=True)
    checkpoint = CheckpointSchema(allow_null=True)


def filters_of(query: Mapping[str, Any]) -> Filters:
    """The filters among validated query parameters."""
    names = ("actor", "verb", "subject", "request_id", "since", "until")
    return Filters(**{name: query[name] for name in names if query.get(name)})


def checkpoint_show(checkpoint: Checkpoint) -> dict[str, Any]:
    delivery: Delivery | None = getattr(checkpoint, "delivery", None)
    shown = None
    if delivery is not None:
        shown = {
            "sink": delivery.sink,
            "attempts": delivery.attempts,
            "last_error": delivery.last_error,
            "delivered_at": iso(delivery.delivered_at),
        }
    return {**checkpoint_document(checkpoint), "delivery": shown}


def chain_show(state: ChainState, last: int, checkpoint: Checkpoint | None) -> dict[str, Any]:
    said = "broken" if state.first_bad is not None else "intact" if state.verified_at else "unread"
    return {
        "object": "audit_chain",
        "state": said,
        "verified_seq": state.head_seq,
        "verified_at": iso(state.verified_at),
        "last_seq": last,
        "rescan_seq": state.rescan_seq,
        "rescanned_at": iso(state.rescanned_at),
        "first_bad": state.first_bad,
        "reason": state.reason,
        "checkpoint": checkpoint_show(checkpoint) if checkpoint else None,
    }
