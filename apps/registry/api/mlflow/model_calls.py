"""Registered models, their tags and aliases."""

from __future__ import annotations

from typing import Any

from apps.kernel.actor import Actor
from apps.kernel.errors import InvalidInput, NotFound
from apps.registry.api.mlflow.asked import Asked
from apps.registry.api.mlflow.shapes import model_shape, version_shape
from apps.registry.api.mlflow.shown import models_shown
from apps.registry.domain.names import alias_at, check_alias, version_line
from apps.registry.selectors import readable_teams, rows
from apps.registry.selectors.search import plain_models, search_models
from apps.registry.services import aliases, catalogue

Answer = dict[str, Any]


def create(actor: Actor, asked: Asked) -> Answer:
    name = asked.text("name")
    description = asked.text("description", "")
    catalogue.model_register(actor=actor, name=name, description=description, tags=asked.tags())
    return _model(actor, name)


def get(actor: Actor, asked: Asked) -> Answer:
    return _model(actor, asked.text("name"))


def update(actor: Actor, asked: Asked) -> Answer:
    name = asked.text("name")
    catalogue.model_describe(actor=actor, name=name, description=asked.text("description", ""))
    return _model(actor, name)


def rename(actor: Actor, asked: Asked) -> Answer:
    name, new_name = asked.text("name"), asked.text("new_name")
    catalogue.model_rename(actor=actor, name=name, new_name=new_name)
    return _model(actor, new_name)


def delete(actor: Actor, asked: Asked) -> Answer:
    catalogue.model_delete(actor=actor, name=asked.text("name"))
    return {}


def search(actor: Actor, asked: Asked) -> Answer:
    asking: dict[str, Any] = {
        "actor": actor,
        "text": asked.text("filter", ""),
        "order_by": asked.texts("order_by"),
        "limit": asked.number("max_results", 100, 1, 1000),
        "token": asked.text("page_token", ""),
    }
    plain = plain_models(**asking)
    if plain is not None:
        marks, following = plain
        answer: Answer = {"registered_models": models_shown(marks)}
    else:
        page = search_models(**asking)
        following = page.next_token
        answer = {"registered_models": [model_shape(row) for row in rows.model_rows(page.ids)]}
    return {**answer, "next_page_token": following} if following else answer


def tag_set(actor: Actor, asked: Asked) -> Answer:
    name, key = asked.text("name"), asked.text("key")
    catalogue.model_tag_set(actor=actor, name=name, key=key, value=asked.text("value", ""))
    return {}


def tag_delete(actor: Actor, asked: Asked) -> Answer:
    catalogue.model_tag_remove(actor=actor, name=asked.text("name"), key=asked.text("key"))
    return {}


def alias_set(actor: Actor, asked: Asked) -> Answer:
    name, alias = asked.text("name"), asked.text("alias")
    aliases.alias_set(actor=actor, model_name=name, alias=alias, number=asked.version())
    return {}


def alias_delete(actor: Actor, asked: Asked) -> Answer:
    aliases.alias_remove(actor=actor, model_name=asked.text("name"), alias=asked.text("alias"))
    return {}


def alias_get(actor: Actor, asked: Asked) -> Answer:
    """Real aliases first, then what is computed: ``latest``, ``s2``, ``s2-1``, ``champion__at__20261101T120000Z``."""
    name, alias = asked.text("name"), asked.text("alias")
    check_alias(alias)
    teams = readable_teams(actor)
    row = rows.version_row_by_alias(name, alias, teams) or _computed(name, alias, teams)
    if row is None:
        if rows.model_row(name, teams) is None:
            raise NotFound("model_unknown", f"There is no model {name}.", extra={"model": name})
        if alias.lower() == "latest":
            raise NotFound("no_version", f"Latest version not found for model {name}.")
        raise InvalidInput.at("/alias", "alias_unknown", f"Registered model alias {alias} not found.")
    return {"model_version": version_shape(row)}


def _computed(name: str, alias: str, teams: rows.Teams) -> rows.Row | None:
    if alias.lower() == "latest":
        return rows.version_row_latest(name, teams)
    line = version_line(alias)
    if line is not None:
        return rows.version_row_of_line(name, *line, teams)
    past = alias_at(alias)
    return rows.version_row_at(name, *past, teams) if past is not None else None


def _model(actor: Actor, name: str) -> Answer:
    row = rows.model_row(name, readable_teams(actor))
    if row is None:
        raise NotFound("model_unknown", f"There is no model {name}.", extra={"model": name})
    return {"registered_model": model_shape(row)}
