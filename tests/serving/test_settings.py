from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.settings import ConfigInvalidError, parse_settings, read_settings

GOOD = {
    "endpoint": "e",
    "variant": "v",
    "version": "1.0.0",
    "model": "m",
    "artifact_uri": "/a",
    "artifact_digest": "sha256:0",
    "port": 7101,
    "telemetry": None,
}


def test_what_is_left_out_has_the_defaults_of_the_contract() -> None:
    settings = parse_settings(GOOD, "i")
    assert (settings.workers, settings.limits.max_rows, settings.limits.timeout_seconds) == (1, 1000, 10.0)
    assert settings.telemetry is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": ""}, "model"),
        ({"artifact_digest": None}, "artifact_digest"),
        ({"port": 70000}, "port"),
        ({"port": True}, "port"),
        ({"workers": 0}, "workers"),
        ({"limits": {"queue": 0}}, "queue"),
        ({"limits": [1]}, "limits"),
        ({"limits": "all"}, "limits"),
        ({"telemetry": "http://x"}, "telemetry"),
        ({"limits": {"timeout_seconds": "1"}}, "timeout_seconds"),
        ({"telemetry": {"url": "http://x", "token_file": "t", "sample_rate": 2}}, "sample_rate"),
        ({"telemetry": {"token_file": "t"}}, "url"),
    ],
)
def test_a_bad_configuration_names_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigInvalidError, match=field):
        parse_settings(GOOD | change, "i")


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigInvalidError, match=r"c\.json"):
        read_settings(path, "i")
