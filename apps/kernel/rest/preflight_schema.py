"""What a target says about a plan before anything is started, in the one form that every door answers.

Here and not in an app, because the doors of two apps answer it and no app imports another one's ``api``.
"""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

LEVELS = ("pass", "warn", "block")
"""The values of ``apps.targets.domain.preflight.Weight``, which this app cannot import; a test holds them together."""


class PreflightCheckSchema(serializers.Serializer[Any]):
    name = serializers.CharField()
    level = serializers.ChoiceField(choices=LEVELS)
    detail = serializers.CharField()
    way_out = serializers.CharField(allow_blank=True, help_text="What to do about it.")
    numbers = serializers.DictField(help_text="What the sentence counts.")


class PreflightChangeSchema(serializers.Serializer[Any]):
    kind = serializers.CharField()
    name = serializers.CharField()
    what = serializers.CharField(help_text="One of create, change, delete.")
    fields_changed = serializers.ListField(child=serializers.CharField())
    diff = serializers.CharField(allow_blank=True, help_text="Lines that begin with + or -.")


class PreflightReportSchema(serializers.Serializer[Any]):
    is_supported = serializers.BooleanField(help_text="false: targets of this kind have nothing to check beforehand.")
    is_passed = serializers.BooleanField(help_text="Nothing blocks.")
    checks = PreflightCheckSchema(many=True)
    changes = PreflightChangeSchema(many=True)
    role = serializers.CharField(allow_blank=True, help_text="The least rights to grant, as YAML to apply.")


class PreflightSchema(PreflightReportSchema):
    object = serializers.CharField()
