"""What a CI job relies on: exit codes, stdout that is only the result, and a wait that ends."""

from __future__ import annotations

import ast
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db.models import F

from apps.rollouts.models import Rollout
from cli.client import Client
from tests.api.world import World, artifact
from tests.cli.conftest import ROOT, Program

pytestmark = pytest.mark.django_db(transaction=True)


def move(rollout: Rollout, phase: str, **changes: Any) -> None:
    """As if the engine had moved it: what the program sees is the row through the API."""
    Rollout.objects.filter(pk=rollout.pk).update(phase=phase, revision=F("revision") + 1, **changes)


def test_plan_shows_and_starts_nothing_and_start_takes_exactly_that_plan(world: World, program: Program) -> None:
    pilothouse = program("alice")
    planned = pilothouse("-o", "json", "rollout", "plan", "late-arrival", "1.1.0", "--profile", "fast")
    assert planned.returncode == 0, planned.stderr
    hashed = json.loads(planned.stdout)["plan_hash"]
    assert not Rollout.objects.exists()
    other = pilothouse("rollout", "start", "late-arrival", "1.1.0", "--plan-hash", hashed)
    assert other.returncode == 7, other.stderr
    start = ("rollout", "start", "late-arrival", "1.1.0", "--profile", "fast", "--plan-hash", hashed, "-o", "json")
    started = [pilothouse(*start, "--idempotency-key", "job-1") for _ in range(2)]
    assert [one.returncode for one in started] == [0, 0], started[1].stderr
    assert {json.loads(one.stdout)["id"] for one in started} == {Rollout.objects.get().pk}


def test_an_approval_is_asked_for_with_one_option(world: World, program: Program) -> None:
    planned = program("alice")("-o", "json", "rollout", "plan", "late-arrival", "1.1.0", "--approval", "2")
    assert planned.returncode == 0, planned.stderr
    steps = json.loads(planned.stdout)["plan"]["steps"]
    assert [step["quorum"] for step in steps if step["kind"] == "approval"] == [2]


@pytest.mark.parametrize(
    ("phase", "code"),
    [
        ("promoted", 0),
        ("completed", 0),
        ("failed", 1),
        ("rolled_back", 3),
        ("aborted", 3),
        ("superseded", 3),
        ("waiting", 4),
        ("paused", 4),
    ],
)
def test_watch_ends_by_the_phase_of_this_rollout_and_says_why(
    world: World, program: Program, phase: str, code: int
) -> None:
    rollout, pilothouse = world.start(), program("bob")
    with pilothouse.start("rollout", "watch", rollout.pk, "-o", "json", "--timeout", "100") as process:
        move(rollout, phase, reason="error rate 3.1 % (31 of 1,000)")
        out, err = process.communicate(timeout=100)
    assert process.returncode == code, err
    assert json.loads(out)["phase"] == phase
    assert "error rate 3.1 % (31 of 1,000)" in err


def test_watch_ends_in_time_with_5_and_the_rollout_goes_on(world: World, program: Program) -> None:
    rollout = world.start()
    Rollout.objects.filter(pk=rollout.pk).update(reason="a freeze window is open")
    done = program("bob")("rollout", "watch", rollout.pk, "--timeout", "1")
    assert done.returncode == 5, done.stderr
    assert "It waits because: a freeze window is open" in done.stderr
    assert Rollout.objects.get().phase == "pending"


def test_abort_ends_with_0_and_a_waiting_start_with_3(world: World, program: Program) -> None:
    pilothouse = program("alice")
    with pilothouse.start("rollout", "start", "late-arrival", "1.1.0", "--wait", "--timeout", "100") as process:
        assert process.stderr is not None
        assert "has started" in process.stderr.readline()
        done = pilothouse("rollout", "abort", Rollout.objects.get().pk, "--reason", "smoke test")
        assert done.returncode == 0, done.stderr
        _, err = process.communicate(timeout=100)
    assert process.returncode == 3
    assert "smoke test" in err


def test_commands_carry_what_was_seen_and_a_stale_one_ends_with_7(world: World, program: Program) -> None:
    rollout, pilothouse = world.start(), program("alice")
    move(rollout, "baking", step=1)
    stale = ("--expected-revision", "1", "--expected-step", "0")
    done = pilothouse("rollout", "pause", rollout.pk, *stale)
    assert done.returncode == 7
    assert "revision 2" in done.stderr
    fresh = pilothouse("rollout", "pause", rollout.pk, "--reason", "lunch", "-o", "json")
    assert fresh.returncode == 0, fresh.stderr
    assert json.loads(fresh.stdout)["phase"] == "paused"
    assert json.loads(fresh.stdout)["allowed_actions"].count("resume") == 1


def test_who_knows_of_what_went_back_says_so_once(world: World, program: Program) -> None:
    rollout, pilothouse = world.start(), program("alice")
    done = pilothouse("rollout", "acknowledge", rollout.pk)
    assert done.returncode == 7
    assert "only one that was rolled back" in done.stderr
    move(rollout, "rolled_back")
    for _ in range(2):
        done = pilothouse("rollout", "acknowledge", rollout.pk, "--reason", "retraining", "-o", "json")
        assert done.returncode == 0, done.stderr
        assert "alice" in json.loads(done.stdout)["acknowledged_by"]


def test_what_a_rule_refuses_ends_with_8_and_what_is_wrong_with_2(world: World, program: Program) -> None:
    pilothouse = program("alice")
    broken = pilothouse("rollout", "start", "late-arrival", "2.0.0")
    assert broken.returncode == 8
    assert "'tail'" in broken.stderr
    assert pilothouse("rollout", "plan", "late-arrival", "2.0.0").returncode == 8
    assert pilothouse("rollout", "start", "late-arrival", "1.1.0", "--strategy", "yolo").returncode == 2
    assert pilothouse("rollout", "start", "nowhere", "1.1.0").returncode == 2
    assert pilothouse("rollout", "fly").returncode == 2


def test_without_a_right_or_a_valid_key_it_ends_with_6(world: World, program: Program, tmp_path: Path) -> None:
    pilothouse = program("bob")
    assert pilothouse("rollout", "start", "late-arrival", "1.1.0").returncode == 6
    assert pilothouse("models", PILOTHOUSE_TOKEN="plh_nonsense").returncode == 6
    assert pilothouse("models", PILOTHOUSE_TOKEN="").returncode == 6
    key = tmp_path / "key"
    key.write_text(pilothouse.env["PILOTHOUSE_TOKEN"] + "\n")
    assert pilothouse("--token-file", str(key), "models", PILOTHOUSE_TOKEN="").returncode == 0


def test_lists_are_tables_for_people_and_json_for_programs(world: World, program: Program) -> None:
    pilothouse = program("alice")
    assert "late-arrival  2.0.0" in pilothouse("models").stdout
    (endpoint,) = json.loads(pilothouse("endpoints", "-o", "json").stdout)
    assert endpoint["stable_version"] == "1.0.0"
    path = str(artifact(world.folder / "n", "n"))
    made = pilothouse("versions", "register", "late-arrival", "1.1.1", path)
    assert made.returncode == 0, made.stderr
    assert "1.1.1" in pilothouse("versions", "list", "late-arrival").stdout


def test_the_other_rooms_can_be_looked_at_and_changed(world: World, program: Program) -> None:
    admin, viewer = program("ada"), program("bob")
    window = ("freezes", "add", "--until", "2099-01-01T00:00:00Z", "--reason", "holidays", "-o", "yaml")
    rehearsed = admin(*window, "--dry-run")
    assert (rehearsed.returncode, "nothing was stored" in rehearsed.stderr) == (0, True)
    assert json.loads(viewer("freezes", "-o", "json").stdout) == []
    made = yaml.safe_load(admin(*window).stdout)
    assert made["reason"] == "holidays"
    assert made["id"] in viewer("freezes").stdout
    assert admin("freezes", "lift", made["id"], "--reason", "over").returncode == 0
    assert "here" in viewer("targets").stdout
    assert admin("targets", "create", "here", "--kind", "fake").returncode == 7
    assert admin("endpoints", "remove", "late-arrival", "--reason", "x", "--expected-revision", "99").returncode == 7
    assert admin("endpoints", "remove", "late-arrival", "--reason", "x").returncode == 0
    assert viewer("endpoints", "show", "late-arrival").returncode == 2
    assert "bob" in viewer("whoami").stdout
    key = viewer.env["PILOTHOUSE_TOKEN"].split("_")[1]
    assert key in viewer("tokens").stdout


def test_an_alias_moves_from_where_it_was_seen_or_not_at_all(world: World, program: Program) -> None:
    pilothouse = program("alice")
    move = ("aliases", "move", "late-arrival", "champion")
    assert pilothouse(*move, "1.0.0", "--expected-version", "").returncode == 0
    assert pilothouse(*move, "1.1.0", "--expected-version", "").returncode == 7
    assert pilothouse("versions", "compare", "late-arrival", "1.0.0", "2.0.0").returncode == 8
    assert json.loads(pilothouse("versions", "show", "late-arrival", "champion", "-o", "json").stdout)["number"] == 1


def test_an_error_says_what_is_wrong_what_is_possible_and_the_request(world: World, program: Program) -> None:
    rollout = world.start()
    done = program("alice")("rollout", "resume", rollout.pk)
    assert (done.returncode, done.stdout) == (7, "")
    assert "possible now: " in done.stderr
    assert "abort" in done.stderr
    assert "request " in done.stderr


def test_a_server_that_never_answers_is_named_and_the_program_ends_with_1(world: World, program: Program) -> None:
    pilothouse = program("bob")
    with socket.socket() as place:  # bound but not listening: every connection is refused
        place.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{place.getsockname()[1]}"
        done = pilothouse("models", PILOTHOUSE_URL=url)
    assert done.returncode == 1
    assert f"{url} does not answer" in done.stderr


@pytest.mark.parametrize("url", ["http://[::1", "http://", "ftp://here", "http://127.0.0.1:99999", "http://xn--a"])
def test_an_address_that_is_none_is_a_mistake_of_usage_and_no_traceback(program: Program, url: str) -> None:
    done = program("bob")("models", PILOTHOUSE_URL=url)
    assert done.returncode == 2
    assert "an http:// or https:// address" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_call_is_repeated_with_the_same_key_until_the_server_is_back() -> None:
    keys: list[str | None] = []

    class Restarting(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            keys.append(self.headers["Idempotency-Key"])
            self.send_response(503 if len(keys) < 3 else 200)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Restarting) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            client = Client(f"http://127.0.0.1:{server.server_port}", "plh_x")
            assert client.post("rollouts", body={}) == {}
        finally:
            client.close()
            server.shutdown()
            thread.join()
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert keys[0]


def test_the_program_imports_neither_django_nor_the_apps() -> None:
    roots = set()
    for path in (ROOT / "cli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                roots |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                roots.add(node.module.split(".")[0])
    assert roots.isdisjoint({"django", "rest_framework", "apps", "controlplane", "worker", "serving", "agent"})


def test_a_target_is_changed_by_what_was_looked_at(world: World, program: Program, tmp_path: Path) -> None:
    admin = program("ada")
    dry = admin("targets", "change", "here", "--no-traffic-policy", "skip", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "no_traffic_policy" in dry.stdout
    done = admin("targets", "change", "here", "--no-traffic-policy", "skip", "-o", "json")
    assert (done.returncode, json.loads(done.stdout)["revision"]) == (0, 2), done.stderr
    stale = admin("targets", "change", "here", "--no-traffic-policy", "probe", "--expected-revision", "1")
    assert stale.returncode == 7, stale.stderr
    assert admin("targets", "change", "here").returncode == 2
    wrong = tmp_path / "connection.json"
    wrong.write_text('{"world": "no such world"}')
    refused = admin("targets", "change", "here", "--connection-file", str(wrong))
    assert refused.returncode == 7, refused.stderr
    assert "late-arrival" in refused.stderr
