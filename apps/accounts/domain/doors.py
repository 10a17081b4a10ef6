"""What a door (a page or an API view) may declare instead of an action of the role table."""

from __future__ import annotations

from apps.accounts.domain.roles import ALL_ACTIONS

PUBLIC = "public"
"""Open to everybody: sign-in, first run, probes."""
SIGNED_IN = "signed_in"
"""Open to whoever is signed in, roles or not: who am I, sign out, my own keys."""

DECLARABLE: frozenset[str] = ALL_ACTIONS | {PUBLIC, SIGNED_IN}
