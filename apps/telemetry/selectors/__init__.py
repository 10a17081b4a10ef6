"""Reads of telemetry: windows, and sampled requests with their labels."""

from apps.telemetry.domain.store import Reads
from apps.telemetry.domain.window import Point
from apps.telemetry.selectors import postgres
from apps.telemetry.selectors.samples import SamplePair, label_count, sample_pairs, source_list

STORE: Reads = postgres
"""Whoever reads windows reads them here: another engine takes this place."""
windows = STORE.windows
measures = STORE.measures
tallies = STORE.tallies
series = STORE.series
series_of_routes = STORE.series_of_routes
split_counts_many = STORE.split_counts_many
minute_sums = STORE.minute_sums
newest_arrivals = STORE.newest_arrivals
totals = STORE.totals


def split_counts(endpoint: str, *, period: int) -> dict[str, int]:
    """Requests per variant that the gateway chose by weight in one period: the measured split."""
    return split_counts_many([(endpoint, period)])[endpoint, period]


def newest_arrival(endpoint: str) -> float | None:
    """Unix seconds of the last report that arrived for the endpoint, None when none ever did."""
    return newest_arrivals([endpoint]).get(endpoint)


__all__ = [
    "STORE",
    "Point",
    "SamplePair",
    "label_count",
    "measures",
    "minute_sums",
    "newest_arrival",
    "newest_arrivals",
    "sample_pairs",
    "series",
    "series_of_routes",
    "source_list",
    "split_counts",
    "split_counts_many",
    "tallies",
    "totals",
    "windows",
]
