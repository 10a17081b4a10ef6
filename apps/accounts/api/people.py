"""People, service accounts, teams, and who has which role where."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.shapes import (
    NewPersonSchema,
    PersonBody,
    PersonSchema,
    RoleBody,
    RoleSchema,
    ServiceBody,
    TeamBody,
    TeamPatch,
    TeamSchema,
    person_show,
    role_show,
    team_show,
)
from apps.accounts.api_access import IdempotentPost
from apps.accounts.domain.roles import Role
from apps.accounts.models import User, UserKind
from apps.accounts.selectors import team_list
from apps.accounts.services.access import scope_q
from apps.accounts.services.memberships import membership_give, membership_take
from apps.accounts.services.people import person_activate, person_create, person_deactivate, person_invite_again
from apps.accounts.services.seen import account_get, accounts_visible, team_seen
from apps.accounts.services.teams import service_create, team_create, team_rename
from apps.kernel.errors import NotFound
from apps.kernel.rest import ApiView, PageQuery, actor_of, body_of, operation, page_of, page_schema, query_of

TAG = "people"
PERSON = {"account_id": "The id of a person or service account."}
TEAM = {"team": "Id or slug."}
READ_WRITE: dict[str, str] = {"GET": "member.read", "POST": "member.write"}


class PeopleView(ApiView):
    action_required: ClassVar = READ_WRITE

    @operation(
        "person_list", "People, and the roles they have", tag=TAG, query=PageQuery,
        answers={200: page_schema("Person", PersonSchema)},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        people = accounts_visible(actor_of(request)).filter(kind=UserKind.PERSON)
        return Response(page_of(people, key="id", show=person_show, **query_of(request, PageQuery)))

    # Deliberately not idempotent: a stored answer would keep the one-time link in the database.
    @operation(
        "person_create", "Make an account and a one-time link to choose its password", tag=TAG, body=PersonBody,
        description="The account has no role yet; give some with role_give.",
        answers={201: NewPersonSchema}, errors=(409,),
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        user, token = person_create(actor=actor_of(request), **body_of(request, PersonBody))
        return _with_link(user, token)


class PersonView(ApiView):
    action_required = "member.read"

    @operation("person_get", "A person or service account", tag=TAG, path=PERSON, answers={200: PersonSchema})
    def get(self, request: Request, account_id: str) -> Response:
        return Response(person_show(account_get(actor_of(request), account_id)))


class PersonDeactivateView(ApiView):
    action_required = "member.write"

    @operation(
        "person_deactivate", "Switch an account off: sessions end, keys are refused", tag=TAG, path=PERSON,
        answers={200: PersonSchema}, errors=(409,),
    )  # fmt: skip
    def post(self, request: Request, account_id: str) -> Response:
        actor = actor_of(request)
        return Response(person_show(person_deactivate(actor=actor, user=account_get(actor, account_id))))


class PersonActivateView(ApiView):
    action_required = "member.write"

    @operation("person_activate", "Switch an account on again", tag=TAG, path=PERSON, answers={200: PersonSchema})
    def post(self, request: Request, account_id: str) -> Response:
        actor = actor_of(request)
        return Response(person_show(person_activate(actor=actor, user=account_get(actor, account_id))))


class PersonInviteView(ApiView):
    action_required = "member.write"

    @operation(
        "person_invite", "A fresh one-time link to choose a password", tag=TAG, path=PERSON,
        answers={201: NewPersonSchema},
    )  # fmt: skip
    def post(self, request: Request, account_id: str) -> Response:
        actor = actor_of(request)
        user = account_get(actor, account_id)
        return _with_link(user, person_invite_again(actor=actor, user=user))


class RolesView(IdempotentPost, ApiView):
    action_required: ClassVar = {"POST": "member.write"}

    @operation(
        "role_give", "Give a role in one team or all, in one environment or all", tag=TAG, path=PERSON, body=RoleBody,
        description="Nobody gives a role to themselves. Giving the same role twice changes nothing.",
        is_idempotent=True, answers={201: RoleSchema},
    )  # fmt: skip
    def post(self, request: Request, account_id: str) -> Response:
        actor, asked = actor_of(request), body_of(request, RoleBody)
        row = membership_give(
            actor=actor,
            user=account_get(actor, account_id),
            role=Role(asked["role"]),
            team=team_seen(actor, asked["team"]) if asked["team"] else None,
            environment=asked["environment"],
        )
        return Response(role_show(row), status=201)


class RoleView(ApiView):
    action_required: ClassVar = {"DELETE": "member.write"}

    @operation(
        "role_take", "Take a role away; the last admin stays", tag=TAG,
        path={**PERSON, "role_id": "The id of the role, from the account."}, answers={204: None}, errors=(409,),
    )  # fmt: skip
    def delete(self, request: Request, account_id: str, role_id: str) -> Response:
        actor = actor_of(request)
        if not (role_id.isascii() and role_id.isdigit() and len(role_id) < 19):
            raise NotFound("membership_unknown", "There is no such role to take.")
        membership_take(actor=actor, membership_id=int(role_id), user=account_get(actor, account_id))
        return Response(status=204)


class ServicesView(IdempotentPost, ApiView):
    action_required: ClassVar = {"GET": "member.read", "POST": "service.write"}

    @operation(
        "service_list", "Service accounts: who CI acts as", tag=TAG, query=PageQuery,
        answers={200: page_schema("Service", PersonSchema)},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        services = accounts_visible(actor_of(request)).filter(kind=UserKind.SERVICE)
        return Response(page_of(services, key="id", show=person_show, **query_of(request, PageQuery)))

    @operation(
        "service_create", "Make a service account of a team", tag=TAG, body=ServiceBody,
        is_idempotent=True, answers={201: PersonSchema}, errors=(404, 409),
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        actor, asked = actor_of(request), body_of(request, ServiceBody)
        user = service_create(actor=actor, team=team_seen(actor, asked["team"]), name=asked["name"])
        return Response(person_show(user), status=201, headers={"Location": f"/api/v1/people/{user.pk}"})


class TeamsView(IdempotentPost, ApiView):
    action_required: ClassVar = {"GET": "member.read", "POST": "team.write"}

    @operation(
        "team_list", "Teams", tag=TAG, query=PageQuery, answers={200: page_schema("Team", TeamSchema)}
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        teams = team_list().filter(scope_q(actor_of(request), "member.read", team="pk"))
        return Response(page_of(teams, key="id", show=team_show, **query_of(request, PageQuery)))

    @operation(
        "team_create",
        "Make a team",
        tag=TAG,
        body=TeamBody,
        is_idempotent=True,
        answers={201: TeamSchema},
        errors=(409,),
    )
    def post(self, request: Request) -> Response:
        team = team_create(actor=actor_of(request), **body_of(request, TeamBody))
        return Response(team_show(team), status=201, headers={"Location": f"/api/v1/teams/{team.pk}"})


class TeamView(ApiView):
    action_required: ClassVar = {"GET": "member.read", "PATCH": "team.write"}

    @operation("team_get", "A team", tag=TAG, path=TEAM, answers={200: TeamSchema})
    def get(self, request: Request, team: str) -> Response:
        return Response(team_show(team_seen(actor_of(request), team)))

    @operation("team_rename", "Another name for a team", tag=TAG, path=TEAM, body=TeamPatch, answers={200: TeamSchema})
    def patch(self, request: Request, team: str) -> Response:
        actor = actor_of(request)
        return Response(team_show(team_rename(actor=actor, team=team_seen(actor, team), **body_of(request, TeamPatch))))


def _with_link(user: User, token: str) -> Response:
    link = f"{settings.PILOTHOUSE_BASE_URL.rstrip('/')}/invite/{token}"
    headers = {"Location": f"/api/v1/people/{user.pk}", "Cache-Control": "no-store"}
    return Response({**person_show(user), "link": link}, status=201, headers=headers)
