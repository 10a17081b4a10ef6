"""Small model helpers shared by every app."""

from __future__ import annotations

from enum import StrEnum

from django.db import models


def closed_choices(values: type[StrEnum]) -> list[str]:
    """The stored values of an enum, for a check constraint."""
    return [member.value for member in values]


def one_of(field: str, values: type[StrEnum], name: str) -> models.CheckConstraint:
    """A database constraint that ``field`` holds one of the enum's values."""
    return models.CheckConstraint(condition=models.Q(**{f"{field}__in": closed_choices(values)}), name=name)
