"""The real site: no page and no API view without a declared action."""

from __future__ import annotations

from django.urls import get_resolver

from apps.accounts.web_access import undeclared_doors

# Probes are asked by machines that cannot sign in and say nothing about anybody; the icon is a static file.
OPEN_ON_PURPOSE = {"/livez", "/readyz", "/metrics", "/favicon.ico"}


def test_every_door_of_the_product_declares_what_it_needs() -> None:
    found = undeclared_doors(get_resolver("controlplane.urls").url_patterns)
    assert set(found) - OPEN_ON_PURPOSE == set()
