"""A real Prometheus for a test: Debian's package, or the program that PILOTHOUSE_PROMETHEUS names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from tests.serving.processes import eventually, free_port

NATIVE_HISTOGRAMS = ("--enable-feature=native-histograms", "--web.enable-remote-write-receiver")


def program() -> str:
    """Skips, loudly, where there is none."""
    found = os.environ.get("PILOTHOUSE_PROMETHEUS") or shutil.which("prometheus")
    if not found:
        pytest.skip("NOT TESTED: no prometheus (Debian package prometheus, or PILOTHOUSE_PROMETHEUS=/path)")
    return found


class PrometheusServer:
    """Scrapes ``targets`` every second. ``flags``: more of its command line; ``rules``: files that it evaluates."""

    def __init__(
        self, folder: Path, targets: Sequence[str] = (), *, flags: Sequence[str] = (), rules: Sequence[Path] = ()
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config = folder / "prometheus.yml"
        listed = ", ".join(f"'{target}'" for target in targets)
        config.write_text(
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
            f"scrape_configs: [{{job_name: it, static_configs: [{{targets: [{listed}]}}]}}]\n"
            f"rule_files: {json.dumps([str(path) for path in rules])}\n",
            encoding="utf-8",
        )
        self._log = (folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [program(), f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
             f"--web.listen-address=127.0.0.1:{self.port}", *flags],
            stdout=self._log, stderr=self._log,
        )  # fmt: skip

    def wait_ready(self) -> PrometheusServer:
        def is_ready() -> bool:
            assert self._process.poll() is None, Path(self._log.name).read_text(encoding="utf-8")
            try:
                return httpx.get(f"{self.url}/-/ready", timeout=2).status_code == 200
            except httpx.TransportError:
                return False

        eventually(is_ready, 60)
        return self

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(30)
        self._log.close()
