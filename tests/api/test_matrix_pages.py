"""Every page by every role: what is read by its GET, from the action that its view declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from django.db import transaction
from django.urls import get_resolver
from pytest_django.plugin import DjangoDbBlocker

from apps.accounts.domain.doors import PUBLIC, SIGNED_IN
from apps.accounts.domain.roles import ACTIONS, EVERYWHERE, Role
from apps.accounts.web_access import _doors as doors
from tests.api.matrix_world import ELSEWHERE, FOREIGN, OWN, Matrix, Person, make_matrix

# What stands for a parameter of a route, by its name, where the route's first words do not say otherwise.
PARAMETERS: dict[str, str] = {
    "slug:name": "{endpoint}", "str:name": "{model}", "str:reference": "1.0.0", "str:rollout_id": "{rollout}",
    "str:review_id": "{review}", "str:account_id": "{person}", "str:team": "{team}", "str:span": "1h",
    "str:sequence_id": "{sequence}", "str:experiment_id": "{experiment}", "str:objective_id": "{objective}",
    "str:request_id": "{promotion}", "int:seq": "1", "int:revision": "0", "str:token": "no-such-link",
    "slug:provider_id": "sso", "int:pk": "1", "str:import_id": "{import}", "str:alias": "newest",
    "str:incident_id": "{alert}", "str:channel_id": "{channel}", "str:webhook_id": "{webhook}",
    "slug:target": "{target}", "str:job_id": "{import}", "str:study_id": "{study}", "str:command": "acknowledge",
}  # fmt: skip
# Routes that are no page of the product's own: programs' doors, probes, and what allauth answers by itself.
LEFT_OUT = ("/^", "/api/", "/livez", "/readyz", "/metrics", "/favicon.ico", "/sso/", "/account/", "/sign-")
PLACES: dict[str, str] = {
    "endpoint": "environment", "rollout": "environment", "review": "environment", "model": "team", "person": "team",
    "sequence": "environment", "experiment": "environment", "objective": "environment", "team": "team",
    "alert": "environment", "channel": "team", "promotion": "team", "webhook": "team",
    "import": "team", "target": "shared",
}  # fmt: skip
# A page that answers otherwise although the caller may: the route, and why.
OTHERWISE: dict[str, tuple[int, str]] = {
    "/alerts/<str:incident_id>/do/<str:command>/": (302, "only sent; opened, it leads to the alert"),
    "/experiments/<str:experiment_id>/take/": (409, "a draft was never read"),
    "/experiments/shadow/export/": (422, "names no endpoint"),
    "/rollouts/<str:rollout_id>/log/<int:revision>/": (404, "a rollout that was only planned has no transition"),
    "/settings/": (302, "leads to the first room"),
    "/settings/targets/<slug:target>/edit/": (422, "a pretended target has no form"),
    "/setup/<str:token>": (404, "the link is no good"),
    "/invite/<str:token>": (404, "the link is no good"),
}
# Pages whose app does not look at the object's team yet, with what is missing.
PENDING: dict[str, str] = {
    "/rollouts/of/<str:name>/live/": "lists only what one may see, but answers 200 with nothing for a foreign model",
    "/alerts/of/<str:name>/": "lists only what one may see, whatever the name: alerts know no endpoints",
}


def pages() -> dict[str, Any]:
    """Route -> action of its GET; what takes only POST is no page."""
    found = {}
    for route, view in doors(get_resolver("controlplane.urls").url_patterns, "/"):
        declared = getattr(view, "action_required", None)
        action = declared.get("GET") if isinstance(declared, Mapping) else declared
        if action is not None and not route.startswith(LEFT_OUT):
            found[route] = action
    return found


PAGES = pages()


@pytest.fixture(scope="module")
def matrix(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Matrix]:
    with django_db_blocker.unblock(), transaction.atomic():
        yield make_matrix(tmp_path_factory.mktemp("pages"))
        transaction.set_rollback(True)


def template(route: str) -> str:
    """The route with names of the matrix's world for its parameters."""
    for parameter, text in PARAMETERS.items():
        route = route.replace(f"<{parameter}>", text)
    return route


@pytest.mark.django_db
def test_every_parameter_of_a_page_has_something_that_stands_for_it() -> None:
    missing = [route for route in PAGES if "<" in template(route)]
    assert not missing, f"say in PARAMETERS of this file what stands for the parameters of {', '.join(missing)}"
    assert set(OTHERWISE) | set(PENDING) <= set(PAGES)


def expected(route: str, action: str, person: Person, where: str) -> set[int]:
    fine = {OTHERWISE[route][0]} if route in OTHERWISE else {200}
    if action == PUBLIC:
        return fine
    if not person.role:
        return {302}
    if action == SIGNED_IN:
        return fine
    if person.role == "none" or action not in ACTIONS[Role(person.role)]:
        return {403}
    if action in EVERYWHERE and person.reach != "all":
        return {403}
    thing = next((name for name in PLACES if "{" + name + "}" in template(route)), "")
    if thing and where == FOREIGN and person.reach != "all" and PLACES[thing] != "shared":
        return {404}
    if thing and where == ELSEWHERE and person.reach == "place" and PLACES[thing] in {"environment", "shared"}:
        return {404}
    return fine


@pytest.mark.parametrize("route", sorted(PAGES))
def test_each_person_gets_the_page_that_the_role_table_says(route: str, matrix: Matrix) -> None:
    action, faults = PAGES[route], []
    has_object = "{" in template(route)
    for person in matrix.people:
        if person.is_key or (person.reach == "all" and action not in EVERYWHERE):
            continue
        if person.role not in {"", "none", "viewer", "engineer", "admin", "auditor"}:
            continue  # operator and approver read what a viewer reads; a page is no slower to break by a viewer
        for where in (OWN, FOREIGN, ELSEWHERE) if has_object else (OWN,):
            if (where == ELSEWHERE) != (person.reach == "place") and where != OWN:
                continue
            address = template(route)
            for name, value in matrix.there(where).items():
                address = address.replace("{" + name + "}", value)
            with transaction.atomic():
                answer = person.client.get(address)
                transaction.set_rollback(True)
            wanted = expected(route, action, person, where)
            if answer.status_code not in wanted:
                faults.append(f"{address}: {person} on {where}: {answer.status_code}, not {wanted}")
    if route in PENDING:
        assert faults, f"{route} is right now: take it out of PENDING in this file"
        return
    assert not faults, "\n".join(faults)
