"""Which way imports and foreign keys run, beyond what import-linter's layers can say."""

from __future__ import annotations

import tomllib
from functools import cache

import grimp
import pytest
from django.apps import apps as django_apps

from tests.architecture.sources import ROOT

OPEN_ROOMS = {"domain", "selectors", "services"}
# The mark on a view and REST framework's own base classes: doors are declared where they stand.
DECLARING_DOORS = {"apps.accounts.web_access", "apps.accounts.api_access"}


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("apps", exclude_type_checking_imports=True, cache_dir=None)


def app_of(module: str) -> str:
    return module.split(".")[1] if module.count(".") else ""


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[2] if len(parts) > 2 else ""


@cache
def levels() -> dict[str, int]:
    """App -> level, 0 on top, from the contract that lint enforces."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = (contract["layers"] for contract in contracts if contract.get("containers") == ["apps"])
    return {name.strip(" ()"): level for level, line in enumerate(layers) for name in line.split("|")}


def edges_between_apps() -> list[tuple[str, str]]:
    """(importing module, imported module) of two different apps; everything in kernel may be imported."""
    return [
        (importer, imported)
        for importer in sorted(graph().modules)
        for imported in sorted(graph().find_modules_directly_imported_by(importer))
        if app_of(importer) != app_of(imported) and app_of(imported) not in {"", "kernel"}
    ]


def test_an_app_reaches_into_another_only_by_domain_selectors_and_services() -> None:
    edges = edges_between_apps()
    assert ("apps.rollouts.services.record", "apps.audit.services.record") in edges  # the graph is not empty
    wrong = [
        f"{importer} imports {imported}"
        for importer, imported in edges
        if room_of(imported) not in OPEN_ROOMS and imported not in DECLARING_DOORS and "migrations" not in importer
    ]
    assert wrong == []


def test_kernel_imports_no_other_app() -> None:
    wrong = [
        f"{importer} imports {imported}"
        for importer in graph().modules
        if app_of(importer) == "kernel"
        for imported in graph().find_modules_directly_imported_by(importer)
        if app_of(imported) not in {"", "kernel"}
    ]
    assert wrong == []


def own_relations() -> list[tuple[str, str, str]]:
    """(from app, to app, field) of every foreign key, one-to-one and many-to-many between our own apps."""
    labels = {
        config.label: config.name.split(".")[1] for config in django_apps.get_app_configs() if _is_ours(config.name)
    }
    found = []
    for model in django_apps.get_models(include_auto_created=True):
        for field in model._meta.get_fields():
            target = field.related_model if field.is_relation and not field.auto_created else None
            if target is None or isinstance(target, str):
                continue
            here, there = model._meta.app_label, target._meta.app_label
            if here in labels and there in labels:
                found.append((labels[here], labels[there], f"{model.__name__}.{field.name}"))
    return found


def _is_ours(name: str) -> bool:
    return name.startswith("apps.")


def test_foreign_keys_point_downward_only() -> None:
    relations = own_relations()
    assert ("rollouts", "targets", "Rollout.endpoint") in relations
    wrong = [
        f"{field} of {here} points at {there}"
        for here, there, field in relations
        if here != there and levels()[here] >= levels()[there]
    ]
    assert wrong == []


@pytest.mark.parametrize("name", sorted(levels()))
def test_every_level_named_in_the_contract_is_an_app_or_announced_as_one(name: str) -> None:
    announced = {"slo", "drift", "experiments", "reviews", "alerts"}
    assert (ROOT / "apps" / name).is_dir() or name in announced
