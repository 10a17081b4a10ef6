"""Two versions on the same inputs: the page of a shadow, and the same as a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from apps.accounts.web_access import actor_of_request, declares
from apps.experiments.domain.shadow import labels_plan
from apps.experiments.services.shadow import Compared, shadow_compare
from apps.experiments.web.said import difference_said, value_said
from apps.experiments.web.take import as_file
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, InvalidInput
from apps.kernel.rest.moments import iso
from apps.targets.selectors import endpoint_list, plan_of

RANGES: Final = (
    ("1h", "1 hour", timedelta(hours=1)),
    ("1d", "1 day", timedelta(days=1)),
    ("7d", "7 days", timedelta(days=7)),
)
SHARE: Final = {"kind": "proportion"}


@declares("experiment.read")
def shadow(request: HttpRequest) -> HttpResponse:
    """``?endpoint=…&first=…&second=…&range=7d&segment=…``; without an endpoint the form alone."""
    actor = actor_of_request(request)
    endpoints = list(endpoint_list(actor))
    chosen = next((one for one in endpoints if one.name == request.GET.get("endpoint", "")), None)
    keys = _keys(chosen)
    context: dict[str, Any] = {
        "endpoints": endpoints,
        "chosen": chosen,
        "keys": keys,
        "ranges": [(value, word) for value, word, _ in RANGES],
        "asked": _asked(request, chosen, [key for key, _ in keys]),
        "found": None,
        "refused": "",
    }
    if chosen is not None:
        try:
            compared = _compared(actor, request)
            context |= _shown(compared) | _planned(request, compared.result)
        except (Conflict, InvalidInput) as error:
            context["refused"] = error.detail
    return render(request, "experiments/shadow.html", context)


@declares("experiment.read")
def shadow_export(request: HttpRequest) -> HttpResponse:
    """``?as=json|csv`` and what the page takes. Raises NotFound, InvalidInput, Conflict ``no_shadow``."""
    kind = request.GET.get("as", "json")
    if kind not in {"json", "csv"}:
        raise InvalidInput.at("/as", "unknown", "as must be one of json, csv.")
    if not request.GET.get("endpoint"):
        raise InvalidInput.at("/endpoint", "required", "Say whose versions are compared: endpoint.")
    found = _compared(actor_of_request(request), request)
    name = f"{found.endpoint}-{found.first}-{found.second}"
    if kind == "csv":
        return as_file(f"{name}.csv", "text/csv; charset=utf-8", shadow_csv(found).encode())
    text = json.dumps(shadow_json(found), indent=2, sort_keys=True)
    return as_file(f"{name}.json", "application/json", text.encode())


def shadow_json(found: Compared) -> dict[str, Any]:
    named = {"endpoint": found.endpoint, "first": found.first, "second": found.second}
    times = {"since": iso(found.since), "until": iso(found.until)}
    return {**named, **times, "inputs_hash": found.inputs_hash, "result": found.result}


def shadow_csv(found: Compared) -> str:
    """A line for all pairs and one per segment."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("segment", "pairs", "agreement", "accuracy_first", "accuracy_second", "only_first", "only_second",
                     "p_value", "score_mean_difference", "score_p50", "score_p95"))  # fmt: skip
    for one in [found.result, *found.result["segments"]]:
        writer.writerow(list(_line(one)))
    return out.getvalue()


def _line(one: Mapping[str, Any]) -> Iterator[Any]:
    right, scores = one["right"] or {}, one["scores"] or {}
    quantiles = scores.get("quantiles", {})
    yield from (one.get("segment", ""), one["pairs"], one["agreement"], *right.get("accuracy", (None, None)))
    yield from (right.get("only_first"), right.get("only_second"), right.get("test", {}).get("p_value"))
    yield from (scores.get("mean", {}).get("estimate"), quantiles.get("0.5"), quantiles.get("0.95"))


def _compared(actor: Actor, request: HttpRequest) -> Compared:
    asked = _asked(request, None, ())
    span = next((span for value, _, span in RANGES if value == asked["range"]), RANGES[-1][2])
    until = now()
    return shadow_compare(
        actor=actor, endpoint_id=asked["endpoint"], first=asked["first"], second=asked["second"],
        segment=asked["segment"], since=until - span, until=until,
    )  # fmt: skip


def _asked(request: HttpRequest, chosen: Any, keys: Sequence[str]) -> dict[str, str]:
    """What the form shows; the versions of another endpoint (none of ``keys``) are not carried over."""
    found = {
        name: request.GET.get(name, "").strip()[:80] for name in ("endpoint", "first", "second", "segment", "range")
    }
    if chosen is not None:
        found |= {name: found[name] if found[name] in keys else "" for name in ("first", "second")}
        found["first"] = found["first"] or (chosen.stable_version.variant_key if chosen.stable_version else "")
        found["second"] = found["second"] or _mirror(chosen)
    return found | {"range": found["range"] if found["range"] in [value for value, _, _ in RANGES] else "7d"}


def _mirror(endpoint: Any) -> str:
    plan = plan_of(endpoint)
    return plan.route.mirror.variant if plan is not None and plan.route.mirror is not None else ""


def _keys(endpoint: Any) -> list[tuple[str, str]]:
    """(variant key, version) of what the endpoint's model has, newest first."""
    if endpoint is None:
        return []
    versions = endpoint.model.versions.filter(deleted_at=None).order_by("-number")[:50]
    return [(version.variant_key, version.semver) for version in versions]


def _shown(found: Compared) -> dict[str, Any]:
    result = found.result
    return {
        "found": found,
        "result": result,
        "agreement": value_said(SHARE, result["agreement"]),
        "right": _right_said(result["right"]),
        "scores": _scores_said(result["scores"]),
        "segments": [_segment_said(one) for one in result["segments"]],
        "flips": [flip | {"share": value_said(SHARE, flip["count"] / result["pairs"])} for flip in result["flips"]],
    }


def _planned(request: HttpRequest, result: Mapping[str, Any]) -> dict[str, Any]:
    """How many labels the next comparison needs: by what was typed, else by the accuracies seen so far."""
    right, agreement = result["right"], result["agreement"]
    if right is None or agreement is None:
        return {"plan": None}
    seen = right["accuracy"]
    typed = {name: request.GET.get(name, "").strip()[:20] for name in ("accuracy", "difference")}
    if not any(typed.values()) and None not in seen and seen[0] != seen[1]:
        typed = {"accuracy": f"{seen[0] * 100:.4g}", "difference": f"{(seen[1] - seen[0]) * 100:.4g}"}
    plan: dict[str, Any] = {"typed": typed, "disagreement": value_said(SHARE, 1.0 - agreement), "fault": ""}
    if not all(typed.values()):
        return {"plan": plan}
    try:
        accuracy, difference = (float(typed[name].replace(",", ".")) / 100.0 for name in ("accuracy", "difference"))
        # Versions that disagree less than their accuracies do cannot be: then the difference itself is the least.
        plan |= labels_plan(accuracy, difference, max(1.0 - agreement, abs(difference)))
    except ValueError as error:
        plan["fault"] = f"{str(error)[:1].upper()}{str(error)[1:]}."
    return {"plan": plan}


def _right_said(right: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if right is None:
        return None
    test = right["test"]
    said: dict[str, Any] = {**right, "accuracy": [value_said(SHARE, one) for one in right["accuracy"]]}
    if "undefined" not in test:
        said["difference"] = difference_said(SHARE, test["estimate"])
        said["interval"] = f"{difference_said(SHARE, test['lower'])} to {difference_said(SHARE, test['upper'])}"
        is_sure = test["p_value"] < 0.05
        better = "ok" if test["estimate"] > 0 else "bad"
        said["level"] = (better, "right more often" if test["estimate"] > 0 else "right less often") if is_sure else (
            "unknown", "no difference shown")  # fmt: skip
    return said


def _scores_said(scores: Mapping[str, Any] | None) -> list[tuple[str, str]] | None:
    if scores is None:
        return None
    rows = [(f"p{float(q) * 100:g}", f"{value:+.4g}") for q, value in scores["quantiles"].items()]
    mean = scores["mean"]
    if "undefined" not in mean:
        rows.append(("mean", f"{mean['estimate']:+.4g} ({mean['lower']:+.4g} to {mean['upper']:+.4g})"))
    return [*rows, ("largest", f"{scores['largest']:.4g}")]


def _segment_said(one: Mapping[str, Any]) -> dict[str, Any]:
    right, scores = one["right"], one["scores"]
    said = {"name": one["segment"], "pairs": one["pairs"], "agreement": value_said(SHARE, one["agreement"])}
    if right is not None:
        first, second = (value_said(SHARE, value) for value in right["accuracy"])
        said |= {"first": first, "second": second, "p": right["test"].get("p_value")}
    if scores is not None:
        said["median"] = f"{scores['quantiles']['0.5']:+.4g}"
    return said
