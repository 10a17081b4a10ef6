"""judge.py REPORT all|finished: is this run of the tests green?

`all` refuses failures, an empty report, and every skip but one: tests that need a real Kubernetes API server, where
nobody named one; they are counted aloud, with what to set. `finished` (a run that was cut short) refuses only failures.
Failures come last, each with the end of what it said, so that the end of a log is enough to know them.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence

NO_CLUSTER = "no Kubernetes API server: set KUBEBUILDER_ASSETS to a folder with "
"""How the reason in tests/targets/kubernetes/cluster.py begins; a folder that lacks something is no excuse."""

TOLD_LINES = 25


def judge(cases: Sequence[ET.Element], mode: str) -> tuple[list[str], bool]:
    """(what to print, is it green)."""
    skipped = [(case, mark) for case in cases if (mark := case.find("skipped")) is not None]
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    excused = [case for case, mark in skipped if mark.get("message", "").startswith(NO_CLUSTER)]
    others = [(case, mark) for case, mark in skipped if case not in excused]
    said = [f"{len(cases)} tests, {len(failed)} failed, {len(others)} skipped, {len(excused)} without a cluster"]
    said += [f"  skipped: {_name(case)}: {mark.get('message', '')}" for case, mark in others]
    if excused:
        line = "!" * 100
        said += [
            line,
            f"!! NOT RUN: {len(excused)} tests against a real Kubernetes API server. Nothing here shows that it works.",
            "!! Set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver, kube-controller-manager, kube-scheduler,",
            "!! and PILOTHOUSE_FAKE_KUBELET to the program that plays the nodes (tests/README.md).",
            line,
        ]
    said += [line for case in failed for line in _failure(case)]
    ran = len(cases) - len(skipped)
    return said, not failed and (mode != "all" or (ran > 0 and not others))


def _failure(case: ET.Element) -> list[str]:
    mark = next(found for kind in ("failure", "error") if (found := case.find(kind)) is not None)
    said, text = (mark.get("message") or "").strip().splitlines(), (mark.text or "").strip().splitlines()
    # What went wrong and where in our tests come first: the end of a traceback is often somebody else's code.
    ours = [line for line in text[:-TOLD_LINES] if line.startswith("tests/")]
    told = [*said[:TOLD_LINES], *ours, *text[-TOLD_LINES:]]
    return [f"  failed: {_name(case)}: {float(case.get('time', 0)):.0f} s", *(f"    {line}" for line in told)]


def _name(case: ET.Element) -> str:
    return f"{case.get('classname')}::{case.get('name')}"


if __name__ == "__main__":
    lines, is_green = judge(list(ET.parse(sys.argv[1]).iter("testcase")), sys.argv[2])  # noqa: S314
    print("\n".join(lines))
    sys.exit(0 if is_green else 1)
