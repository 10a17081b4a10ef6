"""The ingest door's part of ``/metrics`` in the process that holds it."""

from __future__ import annotations

from typing import Protocol

from apps.telemetry.domain.tally import Ledger


class Exported(Protocol):
    ledger: Ledger

    def gauges(self) -> list[str]: ...


_registered: list[Exported] = []


def register(intake: Exported) -> None:
    """The newest door of this process is the one that is exported (tests make several)."""
    _registered[:] = [intake]


def ingest_metrics() -> str:
    """Prometheus text; empty in a process without an ingest door."""
    return "".join("\n".join([*one.ledger.lines(), *one.gauges()]) + "\n" for one in _registered)


def gauge_lines(*gauges: tuple[str, str, float]) -> list[str]:
    """(name, help, value) of each as Prometheus text."""
    return [
        line
        for name, words, value in gauges
        for line in (
            f"# HELP pilothouse_ingest_{name} {words}",
            f"# TYPE pilothouse_ingest_{name} gauge",
            f"pilothouse_ingest_{name} {value:.12g}",
        )
    ]
