"""Taking a readout along: JSON, CSV, and a bundle that gives its decision again with nothing of ours."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

from apps.experiments.domain.bundle import PYTHON_SCRIPT, README
from apps.experiments.domain.bundle_r import R_SCRIPT
from apps.experiments.domain.measuring import slow_moments, variables_of
from apps.experiments.domain.sums import CellRow, cells_of, moments_by_period, old_enough
from apps.experiments.domain.words import ARMS, MetricKind, ReadoutState, Source
from apps.experiments.models import Readout
from apps.experiments.selectors import design_of, periods_of, readout_get
from apps.experiments.services.cells import cells_read
from apps.kernel.actor import Actor
from apps.kernel.errors import Conflict

FIXED = (1980, 1, 1, 0, 0, 0)  # the same readout is the same bytes


def readout_ready(readout: Readout) -> Readout:
    """The same, if it is done. Raises Conflict ``not_done``."""
    if readout.state != ReadoutState.DONE:
        raise Conflict("not_done", f"This readout is {readout.state}; there is nothing to take along yet.")
    return readout


def readout_json(readout: Readout) -> dict[str, Any]:
    """The readout with its design, its periods and what it was made from."""
    experiment = readout.experiment
    return {
        "experiment": {"id": experiment.pk, "name": experiment.name, "status": experiment.status},
        "design": experiment.design,
        "design_hash": experiment.design_hash,
        "readout": {"id": readout.pk, "number": readout.number, "inputs_hash": readout.inputs_hash},
        "inputs": _inputs(readout),
        "result": readout.result,
    }


def readout_csv(readout: Readout) -> str:
    """One line per metric: both arms, the difference, the lift."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    result = readout.result
    for role, shown in [("primary", result["primary"]), *(("secondary", one) for one in result["secondary"])]:
        writer.writerow(list(_line(role, shown)))
    return out.getvalue()


_COLUMNS = (
    "role", "metric", "kind", "control_units", "control", "treatment_units", "treatment", "difference", "lower",
    "upper", "p_value", "p_adjusted", "lift", "lift_lower", "lift_upper", "undefined", "method",
)  # fmt: skip
_SUMS = ("metric", "period", "arm", "variable_1", "variable_2", "n", "sum_1", "sum_2", "s11", "s12", "s22")


def readout_bundle(*, actor: Actor, readout_id: str) -> tuple[str, bytes]:
    """(file name, zip): plan, sums, decision, and scripts in R and Python that give it again. Raises NotFound,
    Conflict ``not_done`` and ``sums_moved`` (later events have changed what this look was made from)."""
    readout = readout_ready(readout_get(readout_id, actor))
    rows, plan = list(_sums(readout)), _plan(readout)
    files = {
        "README.txt": README,
        "plan.json": _text(plan),
        "plan.csv": _csv(("name", "value"), list(_flat(plan, readout.result))),
        "expected.json": _text(readout.result),
        "sums.csv": _csv(_SUMS, rows),
        "units.csv": _csv(("period", "arm", "weight_bp", "units"), list(_units(readout))),
        "looks.csv": _csv(("number", "information"), _looks(readout)),
        "reproduce.py": PYTHON_SCRIPT,
        "reproduce.R": R_SCRIPT,
        "readout.csv": readout_csv(readout),
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, FIXED), text, zipfile.ZIP_DEFLATED)
    return f"{readout.experiment_id}-look-{readout.number}.zip", out.getvalue()


def _plan(readout: Readout) -> dict[str, Any]:
    """What the scripts read: flat, by the names that statistics uses."""
    experiment, inputs = readout.experiment, _inputs(readout)
    design = design_of(experiment)
    metric = design.primary_metric
    return {
        "experiment": experiment.pk,
        "design_hash": experiment.design_hash,
        "inputs_hash": readout.inputs_hash,
        "mode": design.mode.value,
        "alpha": design.alpha,
        "primary": metric.key,
        "kind": metric.kind.value,
        "has_covariate": metric.has_covariate,
        "higher_is_better": metric.higher_is_better,
        "planned_total": inputs["planned_total"],
        "tuned_total": inputs["tuned_total"],
        "minimum_days": inputs["minimum_days"],
        "days": readout.result["days"],
        "is_over": bool(readout.result.get("is_over")),  # readouts of before this was kept have none
        "looks": [look[0] for look in inputs["looks"]] + [readout.information],
        "crossed_before": next((look[1] for look in inputs["looks"] if look[1]), 0),
        "guardrails": readout.result["guardrails"],
        "blocks": readout.result["health"]["blocks"],
    }


def _flat(plan: dict[str, Any], result: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Plan and answer for a program that reads no JSON."""
    for name in ("mode", "alpha", "primary", "kind", "planned_total", "tuned_total", "minimum_days", "days",
                 "crossed_before"):  # fmt: skip
        yield name, plan[name]
    verdicts = [rail["verdict"] for rail in plan["guardrails"]]
    flags = {"is_harmed": "harmed" in verdicts, "is_safe": all(verdict == "safe" for verdict in verdicts)}
    for name in ("has_covariate", "higher_is_better", "is_over"):
        flags[name] = plan[name]
    yield from ((name, "true" if flag else "false") for name, flag in flags.items())
    yield "blocks", len(plan["blocks"])
    difference = result["primary"]["difference"]
    yield "undefined", difference.get("text", "")
    for name in ("estimate", "standard_error", "statistic"):
        yield name, _or_nothing(difference.get(name))
    yield from ((name, _or_nothing(result["look"][name])) for name in ("lower", "upper"))
    yield "decision", result["decision"]["kind"]


def _or_nothing(value: Any) -> Any:
    return "" if value is None else value


def _inputs(readout: Readout) -> dict[str, Any]:
    return dict(readout.inputs or (readout.same_as.inputs if readout.same_as else {}))


def _sums(readout: Readout) -> Iterator[tuple[Any, ...]]:
    """Per metric, period and arm what the analysis used: n, sums and centred products."""
    design, as_of = design_of(readout.experiment), float(_inputs(readout)["as_of"])
    numbers = [period.number for period in periods_of(readout.experiment)]
    cells = _cells_at(readout)
    for metric in design.metrics:
        if metric.kind is MetricKind.QUANTILE:
            continue
        used = cells_of(cells, metric.key, metric=metric, as_of=as_of)
        k = 1 if metric.source is Source.LATENCY else variables_of(metric)
        if metric.source is Source.LATENCY:
            arms = slow_moments(metric, used, numbers)
        else:
            both = moments_by_period(used, numbers, k)
            arms = both.control, both.treatment
        for place, number in enumerate(numbers):
            for arm, moments in zip(ARMS, arms, strict=True):
                sums, centred = moments.sums[place], moments.centred[place]
                second = (float(sums[1]), float(centred[0, 1]), float(centred[1, 1])) if k > 1 else ("", "", "")
                named = (metric.key, number, arm, "y", "x" if k > 1 else "", int(moments.n[place]))
                yield (*named, float(sums[0]), second[0], float(centred[0, 0]), second[1], second[2])


def _cells_at(readout: Readout) -> list[CellRow]:
    """The sums as they are now; refused where they are no longer those of this look."""
    cells = cells_read(readout.experiment)
    design, inputs = design_of(readout.experiment), _inputs(readout)
    metric = design.primary_metric
    used = [cell for cell in cells_of(cells, metric.key) if old_enough(metric, cell.hour, float(inputs["as_of"]))]
    if sum(cell.n for cell in used) != readout.units:
        raise Conflict(
            "sums_moved", "Events came after this look, so its sums are no longer there: have a new one computed."
        )
    return cells


def _units(readout: Readout) -> Iterator[tuple[int, str, int, int]]:
    health = readout.result["health"]["srm"]["periods"]
    for period, found in zip(periods_of(readout.experiment), health, strict=False):
        for arm, units in zip(ARMS, found["observed"], strict=True):
            yield period.number, arm, period.weights_bp[arm], units


def _looks(readout: Readout) -> list[tuple[int, float]]:
    times = [look[0] for look in _inputs(readout)["looks"]]
    return [(index + 1, time) for index, time in enumerate([*times, readout.information])]


def _line(role: str, shown: dict[str, Any]) -> Iterator[Any]:
    control, treatment, difference = shown["arms"][ARMS[0]], shown["arms"][ARMS[1]], shown["difference"]
    lift = shown["lift"] or {}
    yield from (role, shown["metric"], shown["kind"], control["units"], control["value"], treatment["units"])
    yield from (treatment["value"], difference.get("estimate"), difference.get("lower"), difference.get("upper"))
    yield from (difference.get("p_value"), shown.get("p_adjusted"), lift.get("estimate"), lift.get("lower"))
    yield from (lift.get("upper"), difference.get("undefined", ""), difference["method"])


def _csv(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[repr(cell) if isinstance(cell, float) else cell for cell in row] for row in rows])
    return out.getvalue()


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
