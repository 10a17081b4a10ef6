"""The states of a subscription, of a channel, and of what is sent to them."""

from __future__ import annotations

from enum import StrEnum


class SubscriptionState(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"  # by a person
    DISABLED = "disabled"  # by us: its address failed for days, or said that it is gone


class DeliveryState(StrEnum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


class ChannelState(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"


class ChannelKind(StrEnum):
    SLACK = "slack"
    TEAMS = "teams"
    PAGERDUTY = "pagerduty"
    OPSGENIE = "opsgenie"
    EMAIL = "email"
    WEBHOOK = "webhook"
