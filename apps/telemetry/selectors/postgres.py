"""The reading half of the store of windows on PostgreSQL (domain/store.py)."""

from apps.telemetry.selectors.measured import measures
from apps.telemetry.selectors.merged import (
    newest_arrivals,
    series,
    series_of_routes,
    split_counts_many,
    tallies,
    totals,
    windows,
)
from apps.telemetry.selectors.sums import minute_sums

__all__ = [
    "measures",
    "minute_sums",
    "newest_arrivals",
    "series",
    "series_of_routes",
    "split_counts_many",
    "tallies",
    "totals",
    "windows",
]
