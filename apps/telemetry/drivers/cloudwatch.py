"""CloudWatch as a pull source for SageMaker endpoints (namespace AWS/SageMaker, one value a minute).

``ModelLatency`` is in MICROSECONDS. CloudWatch gives percentiles, not buckets: a minute's latencies are rebuilt from
minimum, p50, p90, p95, p99 and maximum, which is labelled. Counts and sums are exact.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from apps.kernel.errors import DriverError, InvalidInput
from apps.telemetry.domain.cells import Cell, cell_of
from apps.telemetry.domain.readings import spread
from apps.telemetry.drivers.base import Pulled, PulledCell, texts

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef

PERIOD = 60
MICROSECONDS = 1e-6
QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99))
COUNTS = ("Invocations", "Invocation4XXErrors", "Invocation5XXErrors", "InvocationModelErrors")
LATENCIES = ("SampleCount", "Sum", "Minimum", "Maximum", *(name for name, _ in QUANTILES))
MAX_VARIANTS = 40
_RETRYABLE = frozenset({"Throttling", "ThrottlingException", "InternalServiceFault", "InternalServiceError",
                        "ServiceUnavailable", "RequestLimitExceeded"})  # fmt: skip


class CloudWatch:
    """One SageMaker endpoint. ``config``: see ``cloudwatch_check``; ``token`` is ``key id:secret``, or empty for the
    identity that this process has anyway."""

    delay_seconds = 120.0

    def __init__(self, endpoint: str, config: Mapping[str, Any], token: str = "") -> None:
        import boto3
        from botocore.config import Config

        self._name = str(config.get("endpoint") or endpoint)
        self._variants = sorted(texts(config, "variants"))
        key, _, secret = token.partition(":")
        self._client = boto3.client(
            "cloudwatch",
            region_name=str(config["region"]),
            aws_access_key_id=key or None,
            aws_secret_access_key=secret or None,
            config=Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 2}),
        )

    def pull(self, *, since: float, until: float) -> Pulled:
        """Whole minutes only: a minute that is still filling up is left for the next time."""
        begin, end = int(since // PERIOD * PERIOD), int(until // PERIOD * PERIOD)
        if end <= begin:
            return Pulled(since, since)
        values = self._values(begin, end)
        cells: list[PulledCell] = []
        newest: float | None = None
        for (variant, minute), found in sorted(values.items()):
            newest = minute + PERIOD if newest is None else max(newest, float(minute + PERIOD))
            cells.append(PulledCell(variant, "", minute, _cell(found)))
        return Pulled(float(begin), float(end), cells, newest, "percentiles")

    def _values(self, begin: int, end: int) -> dict[tuple[str, int], dict[str, float]]:
        """(variant, first second of the minute) -> what it said."""
        from botocore.exceptions import BotoCoreError, ClientError

        queries, meaning = self._queries()
        found: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
        try:
            pages = self._client.get_paginator("get_metric_data").paginate(
                MetricDataQueries=queries,
                StartTime=datetime.fromtimestamp(begin, UTC),
                EndTime=datetime.fromtimestamp(end, UTC),
                ScanBy="TimestampAscending",
            )
            for page in pages:
                for result in page["MetricDataResults"]:
                    variant, name = meaning[result["Id"]]
                    for at, value in zip(result["Timestamps"], result["Values"], strict=True):
                        minute = int(at.timestamp()) // PERIOD * PERIOD
                        if value is not None and begin <= minute < end:
                            found[variant, minute][name] = float(value)
        except ClientError as error:
            facts = error.response.get("Error", {})
            code = str(facts.get("Code", ""))
            raise DriverError(
                "cloudwatch_refused", f"CloudWatch refused ({code}): {facts.get('Message', '')}",
                is_retryable=code in _RETRYABLE,
            ) from error  # fmt: skip
        except BotoCoreError as error:
            raise DriverError("cloudwatch_failed", f"CloudWatch cannot be asked: {error}", is_retryable=True) from error
        return found

    def _queries(self) -> tuple[list[MetricDataQueryTypeDef], dict[str, tuple[str, str]]]:
        queries: list[MetricDataQueryTypeDef] = []
        meaning: dict[str, tuple[str, str]] = {}
        for place, variant in enumerate(self._variants):
            wanted = [(name, "Sum") for name in COUNTS] + [("ModelLatency", stat) for stat in LATENCIES]
            for number, (metric, stat) in enumerate(wanted):
                name = f"q{place}_{number}"
                meaning[name] = (variant, metric if stat == "Sum" and metric != "ModelLatency" else stat)
                queries.append(
                    {
                        "Id": name,
                        "MetricStat": {
                            "Metric": {
                                "Namespace": "AWS/SageMaker",
                                "MetricName": metric,
                                "Dimensions": [
                                    {"Name": "EndpointName", "Value": self._name},
                                    {"Name": "VariantName", "Value": variant},
                                ],
                            },
                            "Period": PERIOD,
                            "Stat": stat,
                        },
                    }
                )
        return queries, meaning


def _cell(found: Mapping[str, float]) -> Cell:
    count = {name: round(found.get(name, 0.0)) for name in COUNTS}
    total, client = count["Invocations"], count["Invocation4XXErrors"]
    model = min(count["InvocationModelErrors"], count["Invocation5XXErrors"])
    other = count["Invocation5XXErrors"] - model
    fates = {"client_4xx": client, "model_error": model, "other_5xx": other}
    fates["good"] = max(0, total - sum(fates.values()))
    timed = round(found.get("SampleCount", 0.0))
    if not timed:
        return cell_of(fates=fates)
    least, most = found.get("Minimum", 0.0) * MICROSECONDS, found.get("Maximum", 0.0) * MICROSECONDS
    points = [(0.0, least), *((q, found[name] * MICROSECONDS) for name, q in QUANTILES if name in found), (1.0, most)]
    buckets, zero = _rebuilt(timed, points)
    sum_ns = round(found.get("Sum", 0.0) * MICROSECONDS * 1e9)
    return cell_of(fates=fates, buckets=buckets, zero=zero, sum_ns=sum_ns, minimum=least, maximum=most)


def _rebuilt(count: int, points: list[tuple[float, float]]) -> tuple[dict[int, int], int]:
    """A histogram through quantiles: between two of them the values are spread evenly on a log scale."""
    ranks = [round(share * count) for share, _ in points]
    bounds = [value for _, value in points]
    for place in range(1, len(bounds)):
        bounds[place] = max(bounds[place], bounds[place - 1])  # percentiles are estimates and may cross
    parts = [0, *(after - before for before, after in pairwise(ranks)), 0]
    return spread(bounds, parts)


def cloudwatch_check(config: Mapping[str, Any]) -> None:
    """Raises InvalidInput naming the field."""
    known = {"region", "endpoint", "variants"}
    for name in config:
        if name not in known:
            raise InvalidInput.at(f"/config/{name}", "unknown_field", f"{name} is none of {', '.join(sorted(known))}.")
    if not str(config.get("region") or "").replace("-", "").isalnum():
        raise InvalidInput.at("/config/region", "required", "region is an AWS region, such as eu-central-1.")
    variants = texts(config, "variants")
    if not 0 < len(variants) <= MAX_VARIANTS:
        raise InvalidInput.at(
            "/config/variants", "required",
            f'variants maps production variants to ours: {{"AllTraffic": "v1-0-0"}}; at most {MAX_VARIANTS}.',
        )  # fmt: skip
