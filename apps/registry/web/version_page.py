"""One version: what it takes and gives, what is known of its bytes, where it runs, and what can be done to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from apps.accounts.web_access import actor_of_request, declares, why_not_of
from apps.kernel.actor import Actor
from apps.kernel.errors import InvalidInput
from apps.registry.domain.names import SEMVER_TAG
from apps.registry.domain.words import Stage, Trust, VersionStatus
from apps.registry.models import ModelVersion
from apps.registry.selectors.pages import aliases_of, deployments_of, version_seen
from apps.registry.services.aliases import alias_move
from apps.registry.services.verify import is_read_here
from apps.registry.services.verify_ingest import version_ingest_ask
from apps.registry.services.versions import (
    version_card_set,
    version_delete,
    version_describe,
    version_stage,
    version_tag_remove,
    version_tag_set,
)
from apps.registry.web.bring import artifact_location_lines, bring_lines
from apps.registry.web.cards import markdown, skeleton
from apps.registry.web.doors import Faults, attempt, require
from apps.registry.web.model_page import ACTIONS
from apps.registry.web.shown import (
    badge_of,
    called,
    columns_of,
    files_of,
    is_loadable,
    load_lines,
    pickles_of,
    stage_word,
    story_of,
)

STAGES = tuple((stage.value, stage.value.capitalize()) for stage in Stage)


@declares("model.read")
def version(request: HttpRequest, name: str, reference: str) -> HttpResponse:
    """One version by semver, number or alias. Raises NotFound."""
    return _page(request, version_seen(actor_of_request(request), name, reference))


@declares("model.read")
def state(request: HttpRequest, name: str, reference: str) -> HttpResponse:
    """Fragment of a version that is being checked; once it is settled the whole page is fetched again."""
    found = version_seen(actor_of_request(request), name, reference)
    answer = render(request, "registry/_state.html", {"story": story_of(found)})
    if found.status != VersionStatus.PENDING and request.headers.get("HX-Request") == "true":
        answer["HX-Refresh"] = "true"
    return answer


@declares({"POST": "model.write"})
def describe(request: HttpRequest, name: str, reference: str) -> HttpResponse:
    """The description."""
    text = request.POST.get("description", "").replace("\r\n", "\n").strip()

    def change(found: ModelVersion) -> object:
        actor = actor_of_request(request)
        return version_describe(actor=actor, model_name=name, number=found.number, description=text)

    return _change(request, name, reference, "model.write", change, "The description is changed.")


@declares({"POST": "model.write"})
def card(request: HttpRequest, name: str, reference: str) -> HttpResponse:
    """The model card; empty brings the generated one back."""
    text = request.POST.get("card", "").replace("\r\n", "\n").strip()

    def change(found: ModelVersion) -> object:
        actor = actor_of_request(request)
        return version_card_set(actor=actor, model_name=name, number=found.number, card=text)

    return _change(request, name, reference, "model.write", change, "The model card is written.")


@declares({"POST": "alias.move"})
def stage(request: HttpRequest, name: str, reference: str) -> HttpResponse:
    """Moves it to one of MLflow's stages."""
    wanted = request.POST.get("stage", "")

    def change(found: ModelVersion) -> object:
        if wanted not in set(Stage):
            raise InvalidInput.at("/stage", "unknown", "Choose a stage from the list.")
        return version_stage(
            actor=actor_of_request(request),
            model_name=name,
            number=found.number,
            stage=Stage(wanted),
            archive_existing=bool(request.POST.get("archive")) and wanted in {Stage.STAGING, Stage.PRODUCTION},
        )

    return _change(request, name, reference, "alias.move", change, f"The stage is {wanted.capitalize()}.")


@declares({"POST": "alias.move"})
def promote(request: HttpRequest, name: str, reference: str) -> HttpResponse:
    """Points an alias at this version; a protected one becomes a request, whose page follows."""
    word = request.POST.get("alias", "").strip()

    def change(found: ModelVersion) -> object:
        return alias_move(
            actor=actor_of_request(request), model_name=name, alias=word, version=found.reference,
            expected=request.POST.get(f"expected-{word}"),
        )  # fmt: skip

    return _change(request, name, reference, "alias.move", change, f"{word} points at {reference}.")


@declares({"POST": "model.write"})
def tag(request: HttpRequest, name: str, reference: str) -> HttpResponse:
    """Sets a tag, or with ``remove`` takes one away."""
    actor, key = actor_of_request(request), request.POST.get("key", "").strip()

    def change(found: ModelVersion) -> None:
        if request.POST.get("remove"):
            version_tag_remove(actor=actor, model_name=name, number=found.number, key=key)
        else:
            value = request.POST.get("value", "").strip()
            version_tag_set(actor=actor, model_name=name, number=found.number, key=key, value=value)

    return _change(request, name, reference, "model.write", change, f"The tag {key} is changed.")


@declares({"POST": "model.register"})
def ingest(request: HttpRequest, name: str, reference: str) -> HttpResponse:
    """Asks a worker to bring the bytes here."""
    source = request.POST.get("source", "").strip()

    def change(found: ModelVersion) -> object:
        return version_ingest_ask(actor=actor_of_request(request), version=found, source=source)

    said = "A worker reads the files now; this page shows what it found when you look again."
    return _change(request, name, reference, "model.register", change, said)


@declares({"POST": "model.delete"})
def delete(request: HttpRequest, name: str, reference: str) -> HttpResponse:
    """Hides the version after its name was typed; refused, with the places, while an endpoint runs it."""
    actor = actor_of_request(request)
    found = version_seen(actor, name, reference)
    require(request, "model.delete", found.model)
    typed = f"{name} {called(found)}"

    def remove() -> None:
        if request.POST.get("confirm", "").strip() != typed:
            raise InvalidInput.at("/confirm", "not_confirmed", f"Type {typed} to delete it; nothing was deleted.")
        version_delete(actor=actor, model_name=name, number=found.number)

    return attempt(
        request,
        remove,
        done=f"{typed} is deleted. Its number and semver are never given again.",
        then=reverse("registry:model", args=[name]),
        refused=lambda f, s: _page(request, found, f, s),
    )


def _change(
    request: HttpRequest, name: str, reference: str, action: str, do: Callable[[ModelVersion], object], done: str
) -> HttpResponse:
    found = version_seen(actor_of_request(request), name, reference)
    require(request, action, found.model)
    place = reverse("registry:version", args=[name, reference])
    return attempt(request, lambda: do(found), done=done, then=place, refused=lambda f, s: _page(request, found, f, s))


def _page(request: HttpRequest, found: ModelVersion, faults: Faults | None = None, status: int = 200) -> HttpResponse:
    model, actor = found.model, actor_of_request(request)
    aliases = aliases_of([model])
    mine = [alias for alias in aliases if alias.version_id == found.pk]
    places = deployments_of(actor, model)
    columns = columns_of(found)
    files, file_count, why_no_files = files_of(found)
    stable = _stable(found, [alias for alias in aliases if alias.version_id != found.pk], places)
    context: dict[str, Any] = {
        "model": model,
        "version": found,
        "story": story_of(found),
        "badge": badge_of(found),
        "pickles": pickles_of(found),
        "stage": stage_word(found),
        "stages": STAGES,
        "aliases": mine,
        "choices": _choices(model.protected_aliases, aliases, found),
        "description": markdown(found.description) if found.description else "",
        "inputs": columns,
        "outputs": found.signature.get("outputs", []),
        "metrics": sorted(found.metrics.items()),
        "params": sorted(found.params.items()),
        "tags": [one for one in found.tags.order_by("key") if one.key != SEMVER_TAG],
        "files": files,
        "file_count": file_count,
        "why_no_files": why_no_files,
        "places": [one for one in places if one.key == found.variant_key],
        "stable": stable,
        # Its author wrote it: only what a browser opens as a page is made a link.
        "run_link": found.run_link if found.run_link.lower().startswith(("http://", "https://")) else "",
        "card": markdown(found.card or skeleton(found)),
        "is_skeleton": not found.card,
        "card_text": found.card or skeleton(found),
        "load": _load(found, mine),
        **_bytes(actor, found),
        "base_url": settings.PILOTHOUSE_BASE_URL,
        "faults": faults or {},
        "typed": request.POST,
        "why_not": {name: why_not_of(request, action, model) for name, action in ACTIONS.items()},
    }
    return render(request, "registry/version.html", context, status=status)


def _load(found: ModelVersion, mine: list[Any]) -> str:
    """The lines that load it, "" while its bytes are not here."""
    if not is_loadable(found):
        return ""
    return load_lines(f"{found.model.name}@{mine[0].name}" if mine else f"{found.model.name}/{found.number}")


def _bytes(actor: Actor, found: ModelVersion) -> dict[str, Any]:
    """Whether its bytes are missing, where they can be read from ("" for nowhere), and how else to bring them."""
    is_read = is_read_here(found.source_uri, actor.label, found.mlflow_model_id)
    return {
        "is_loadable": is_loadable(found),
        "needs_bytes": found.status == VersionStatus.READY and found.trust != Trust.VERIFIED,
        "readable_source": found.source_uri if is_read else "",
        "bring": bring_lines(found),
        "along": artifact_location_lines(found.model.name),
    }


def _choices(protected: list[str], aliases: list[Any], found: ModelVersion) -> list[dict[str, Any]]:
    """The aliases that could be moved here, the protected ones first."""
    here = {alias.name: alias for alias in aliases}
    names = [*sorted(protected), *sorted(set(here) - set(protected))]
    return [
        {
            "name": name,
            "is_protected": name in protected,
            "current": here[name].version.reference if name in here else "",
            "current_called": called(here[name].version) if name in here else "",
            "is_here": name in here and here[name].version_id == found.pk,
        }
        for name in names
    ]


def _stable(found: ModelVersion, aliases: list[Any], places: list[Any]) -> str:
    """The version to compare with: what an endpoint serves as stable, else a protected alias, else the parent."""
    for place in places:
        if place.role == "stable" and place.key != found.variant_key:
            return str(place.key).removeprefix("n") if place.key.startswith("n") else place.key[1:].replace("-", ".")
    for alias in sorted(aliases, key=lambda one: one.name not in found.model.protected_aliases):
        return str(alias.version.reference)
    return found.parent.reference if found.parent is not None and found.parent.model_id == found.model_id else ""
