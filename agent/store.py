"""What the agent was told: one file per endpoint, written before the answer, fenced by (epoch, generation)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from agent.errors import AgentError, ConflictingPlan, StaleEpoch
from agent.files import read_json, write_json
from agent.plan import Plan, parse_plan

log = structlog.get_logger("agent.store")


@dataclass(frozen=True, slots=True)
class Record:
    """The newest accepted word on one endpoint. `plan` is None for an endpoint removed before it was ever known."""

    endpoint: str
    epoch: int
    generation: int
    plan: Plan | None
    is_removed: bool = False

    def to_wire(self) -> dict[str, Any]:
        return {
            "endpoint": self.endpoint,
            "epoch": self.epoch,
            "generation": self.generation,
            "plan": self.plan.to_wire() if self.plan else None,
            "is_removed": self.is_removed,
        }


class EndpointStore:
    """All records of one home. Callers serialise; reads are from memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records: dict[str, Record] = {}
        self._unreadable: dict[str, str] = {}

    @property
    def unreadable(self) -> list[str]:
        """Endpoints whose record could not be read, and that nobody has applied again."""
        return list(self._unreadable)

    @property
    def warnings(self) -> list[str]:
        return [f"{endpoint}.json could not be read; {rest}." for endpoint, rest in self._unreadable.items()]

    def load(self) -> None:
        for path in sorted(self._folder.glob("*.json")):
            try:
                record = _record_of(read_json(path))
            except (ValueError, KeyError, TypeError, OverflowError, AgentError) as error:
                # Written whole or not at all, so this is a damaged disk or a hand; the others must still be served.
                log.warning("record_unreadable", path=str(path), error=str(error))
                self._unreadable[path.stem] = "its endpoint is unknown until it is applied again"
                continue
            self._records[record.endpoint] = record

    def stand_in(self, endpoint: str, epoch: int, plan: Plan) -> None:
        """`plan` in place of a record that could not be read, until the endpoint is applied again."""
        self._unreadable[endpoint] = "what carries its traffic stays until it is applied again"
        self._records[endpoint] = Record(endpoint, epoch, plan.generation, plan)

    def get(self, endpoint: str) -> Record | None:
        return self._records.get(endpoint)

    def all(self) -> list[Record]:
        return [self._records[name] for name in sorted(self._records)]

    def put(self, endpoint: str, epoch: int, plan: Plan) -> tuple[Record, bool]:
        """Accept or refuse a plan; returns the record and whether it is new. Blocks on the disk.

        A lower (epoch, generation) is stale; so is an equal one after a removal: it is a late copy of what was removed.
        Raises StaleEpoch, ConflictingPlan, StorageFailed.
        """
        known = self._records.get(endpoint)
        pair = (epoch, plan.generation)
        if known and (pair < _pair(known) or (pair == _pair(known) and known.is_removed)):
            raise _stale(known, f"({epoch}, {plan.generation})")
        if known and pair == _pair(known):
            if known.plan != plan:
                raise ConflictingPlan(
                    f"Epoch {epoch}, generation {plan.generation} of {endpoint} is already another plan; "
                    "raise the generation with every change."
                )
            return known, False
        return self._write(Record(endpoint, epoch, plan.generation, plan)), True

    def remove(self, endpoint: str, epoch: int) -> tuple[Record, bool]:
        """Leave a tombstone with its epoch; repeating it changes nothing. Raises StaleEpoch, StorageFailed."""
        known = self._records.get(endpoint)
        if known and epoch < known.epoch:
            raise _stale(known, str(epoch))
        if known and known.is_removed and known.epoch == epoch:
            return known, False
        plan, generation = (known.plan, known.generation) if known else (None, 0)
        return self._write(Record(endpoint, epoch, generation, plan, is_removed=True)), True

    def _write(self, record: Record) -> Record:
        write_json(self._folder / f"{record.endpoint}.json", record.to_wire())
        self._records[record.endpoint] = record
        self._unreadable.pop(record.endpoint, None)
        return record


def _pair(record: Record) -> tuple[int, int]:
    return (record.epoch, record.generation)


def _stale(known: Record, offered: str) -> StaleEpoch:
    what = "removed" if known.is_removed else "known"
    return StaleEpoch(
        f"{known.endpoint} is already {what} with epoch {known.epoch}, generation {known.generation}; "
        f"{offered} is older.",
        current_epoch=known.epoch,
        current_generation=known.generation,
    )


def _record_of(raw: Any) -> Record:
    plan = parse_plan(raw["plan"]) if raw["plan"] is not None else None
    return Record(str(raw["endpoint"]), int(raw["epoch"]), int(raw["generation"]), plan, bool(raw["is_removed"]))
