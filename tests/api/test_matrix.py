"""Every operation of /api/v1 by every kind of caller on their own team's objects, another team's, and an environment
that is not theirs. What is expected is derived: from the action that the view declares and the table of roles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from django.urls import resolve
from pytest_django.plugin import DjangoDbBlocker

from apps.accounts.api.permissions import required_by
from apps.accounts.domain.doors import PUBLIC, SIGNED_IN
from apps.accounts.domain.roles import ACTIONS, Role
from tests.api.matrix_world import ELSEWHERE, FOREIGN, OWN, Matrix, Person, make_matrix
from tests.api.rows import PENDING, ROWS, Row
from tests.api.test_doors import operations


@pytest.fixture(scope="module")
def matrix(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Matrix]:
    """One world for all rows, in a transaction that nobody commits; every call is undone by a savepoint."""
    with django_db_blocker.unblock(), transaction.atomic():
        yield make_matrix(tmp_path_factory.mktemp("matrix"))
        transaction.set_rollback(True)


def declared(row: Row) -> str:
    """The action that the row's view declares for its method."""
    path = row.path.partition("?")[0].replace("{", "").replace("}", "")
    view: Any = resolve(f"/api/v1/{path}").func
    return required_by(view.cls(), row.method.upper())


def filled(value: Any, names: dict[str, str]) -> Any:
    """``value`` with every ``{name}`` replaced, however deep."""
    if isinstance(value, dict):
        return {key: filled(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, names) for inner in value]
    if isinstance(value, str):
        for name, text in names.items():
            value = value.replace("{" + name + "}", text)
    return value


def expected(row: Row, door: str, person: Person, where: str) -> int:
    """The status by the table of roles, the row, and where the object is."""
    success = row.roles.get(person.role) or (row.key if person.is_key and row.key else row.ok)
    if door == PUBLIC:
        return row.ok
    if not person.role:
        return 401
    action = row.action or door
    if action != SIGNED_IN:
        held = ACTIONS[Role(person.role)] if person.role != "none" else frozenset()
        if door != SIGNED_IN and door not in held:
            return 403
        if action not in held:
            return row.denied
    is_narrow = person.reach != "all"
    if row.place == "wide" and is_narrow:
        return 403
    if where == FOREIGN and is_narrow:
        return row.unseen
    if where == ELSEWHERE and person.reach == "place":
        return 404
    if row.narrow and person.reach == "place":
        return row.narrow
    return success


def cases(matrix: Matrix, row: Row) -> Iterator[tuple[Person, str]]:
    """Who calls on what: each question once. Keys carry the rights of their roles, so they ask about their own only."""
    for person in matrix.people:
        yield from ((person, where) for where in _asked(row, person))


def _asked(row: Row, person: Person) -> tuple[str, ...]:
    if person.is_key:
        return (OWN,) if person.reach == "team" else ()
    match (row.place, person.reach):
        case ("", "place") | ("wide", "place"):
            return ()
        case ("environment", "place"):
            return (OWN, ELSEWHERE)
        case ("team" | "environment", "team"):
            return (OWN, FOREIGN)
        case ("team" | "environment", "all"):
            return (FOREIGN,)
        case ("team", "place"):
            return (OWN,)
        case _:
            return (OWN,)


def call(matrix: Matrix, row: Row, person: Person, where: str) -> Any:
    names = {**matrix.there(where), "role": person.role}
    body = filled(row.body, names)
    data = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    with transaction.atomic():
        answer = person.client.generic(
            row.method.upper(),
            f"/api/v1/{filled(row.path, names)}",
            data,
            content_type=row.content_type,
            headers=dict(row.headers),
        )
        if hasattr(answer, "streaming_content"):
            b"".join(answer.streaming_content)
        transaction.set_rollback(True)
    return answer


def wrong(matrix: Matrix, name: str) -> list[str]:
    """What is not as expected, a line each."""
    row, found = ROWS[name], []
    door = declared(row)
    for person, where in cases(matrix, row):
        answer, wanted = call(matrix, row, person, where), expected(row, door, person, where)
        if answer.status_code != wanted:
            text = "" if answer.streaming else answer.content.decode().partition('"detail":')[2][:160]
            found.append(f"{name}: {person} on {where}: {answer.status_code}, not {wanted} {text}")
        elif wanted >= 400:
            assert answer["Content-Type"].startswith("application/problem+json"), (name, str(person))
            assert answer.json()["detail"]
            assert answer.json()["instance"] == answer["X-Request-ID"]
    return found


@pytest.mark.parametrize("name", sorted(ROWS))
def test_each_caller_gets_what_the_role_table_says(name: str, matrix: Matrix) -> None:
    found = wrong(matrix, name)
    if name not in PENDING:
        assert not found, "\n".join(found)
        return
    assert found, f"{name} is right now: take it out of PENDING in tests/api/rows.py"
    # Pending is about where, never about what: whoever lacks the action is refused already.
    assert all(
        " on foreign" in line or " on elsewhere" in line or "(team)" in line or "(place)" in line for line in found
    )


# Marked so that the plugin makes a database: the other tests share the transaction of their module instead.
@pytest.mark.django_db
def test_every_operation_of_the_document_has_a_row_in_the_matrix() -> None:
    missing = {name for name, _, _ in operations()} - set(ROWS)
    assert not missing, (
        f"{', '.join(sorted(missing))}: write a Row in tests/api/rows.py with a call that succeeds for whoever has the "
        "right, and what its object belongs to (team, environment, wide, or nothing)"
    )
    assert not set(ROWS) - {name for name, _, _ in operations()}, "a row of an operation that is gone"
    assert set(PENDING) <= set(ROWS)


LISTS = {name: row for name, row in ROWS.items() if name.endswith("_list") and row.place == ""}
SHOWS = {
    "model_list": "model", "endpoint_list": "endpoint", "rollout_list": "rollout", "review_list": "review",
    "freeze_list": "freeze", "person_list": "person", "service_list": "service", "ci_trust_list": "trust",
    "token_list": "token", "team_list": "team", "import_list": "import", "webhook_list": "webhook",
    "alert_list": "alert", "alert_channel_list": "channel", "alert_route_list": "route",
    "alert_receiver_list": "receiver",
    "promotion_list": "promotion", "rollout_sequence_list": "sequence", "experiment_list": "experiment",
}  # fmt: skip
EVERYBODYS = {"target_list": "where something runs is known to all who may read targets", "format_rule_list": "rules"}


def test_every_list_is_looked_into() -> None:
    assert set(LISTS) == set(SHOWS) | set(EVERYBODYS), "say in SHOWS whose objects the list shows, or in EVERYBODYS why"


def names_of(items: list[dict[str, Any]]) -> set[str]:
    """What items are called by. Not what else stands in them: a person's id may be the number of somebody's role."""
    return {str(item[key]) for item in items for key in ("id", "name", "slug", "username") if key in item}


@pytest.mark.parametrize("name", sorted(SHOWS))
def test_a_list_shows_ones_own_and_nothing_of_others(name: str, matrix: Matrix) -> None:
    row, thing, faults = ROWS[name], SHOWS[name], []
    door = declared(row)
    place = next((one.place for one in ROWS.values() if "/{" + thing + "}" in one.path), "team")
    for person in matrix.people:
        if not person.role or person.is_key or expected(row, door, person, OWN) != 200:
            continue
        shown = names_of(call(matrix, row, person, OWN).json()["items"])
        sees = {where for where in (OWN, FOREIGN, ELSEWHERE) if matrix.there(where)[thing] in shown}
        may = {OWN, FOREIGN, ELSEWHERE}
        if person.role == "none" or (name == "token_list" and "token.write" not in ACTIONS[Role(person.role)]):
            may = set()
        elif person.reach != "all":
            may &= {OWN, ELSEWHERE} if person.reach == "team" or place == "team" else {OWN}
        if sees != may:
            faults.append(f"{name}: {person} sees {sorted(sees)}, not {sorted(may)}")
    if name in PENDING:
        assert faults, f"{name} is right now: take it out of PENDING in tests/api/rows.py"
        return
    assert not faults, "\n".join(faults)
