"""Names and ids in an address."""

from __future__ import annotations

from django.urls import register_converter


class NameConverter:
    """A name or id in a path; anything else is 404 before it reaches the database (which refuses NUL)."""

    regex = r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(NameConverter, "name")
