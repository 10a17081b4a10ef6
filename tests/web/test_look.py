"""The law of look, as far as a machine can check it: contrast of the tokens, small templates, no inline handlers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from controlplane.env import ROOT

FRONTEND = ROOT / "frontend"
TEMPLATES = sorted((FRONTEND / "templates").rglob("*.html"))
TEXT = ("ink", "muted", "accent", "ok", "progressing", "attention", "bad", "unknown")
PALE = (("ok", "ok-pale"), ("progressing", "progressing-pale"), ("attention", "attention-pale"), ("bad", "bad-pale"),
        ("unknown", "unknown-pale"), ("ink", "accent-pale"), ("muted", "sunken"), ("muted", "accent-pale"),
        ("ink", "bad-pale"))  # fmt: skip
BUTTONS = (("on-accent", "accent"), ("on-accent", "accent-strong"), ("on-bad", "bad"))
GRAPHICS = ("stable", "candidate", "shadow-variant", "line-strong", *(f"other-{n}" for n in range(1, 7)))


def themes() -> dict[str, dict[str, str]]:
    """Light from the first block; dark from the media query, and from the switch: three sets."""
    text = (FRONTEND / "static" / "css" / "tokens.css").read_text()
    blocks = re.findall(r"([^{}]+)\{([^{}]*--ground[^{}]*)\}", text)
    names = ["light", "dark by the system", "dark by the switch"]
    sets = [dict(re.findall(r"--([\w-]+):\s*(#[0-9a-fA-F]{6})", body)) for _, body in blocks]
    return dict(zip(names, sets, strict=True))


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_the_ratio_of_black_and_white_is_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("theme", themes())
def test_text_has_aa_contrast_on_every_ground_it_stands_on(theme: str) -> None:
    tokens = themes()[theme]
    pairs = [(text, ground) for text in TEXT for ground in ("ground", "surface")]
    faint = {pair: contrast(tokens[pair[0]], tokens[pair[1]]) for pair in [*pairs, *PALE, *BUTTONS]}
    assert {pair: round(ratio, 2) for pair, ratio in faint.items() if ratio < 4.5} == {}


@pytest.mark.parametrize("theme", themes())
def test_lines_fills_and_borders_of_controls_can_be_told_from_the_ground(theme: str) -> None:
    tokens = themes()[theme]
    faint = {
        (name, ground): contrast(tokens[name], tokens[ground]) for name in GRAPHICS for ground in ("ground", "surface")
    }
    assert {pair: round(ratio, 2) for pair, ratio in faint.items() if ratio < 3} == {}


def test_both_dark_themes_are_the_same() -> None:
    found = themes()
    assert found["dark by the system"] == found["dark by the switch"]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(FRONTEND / "templates")))
def test_a_template_is_small_and_has_no_inline_script_or_handler(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 150
    assert not re.search(r"\son\w+=", text)
    assert not re.search(r"<script(?![^>]*(src=|type=\"application/json\"))", text)
    assert " style=" not in text


def test_no_template_or_module_loads_anything_from_elsewhere() -> None:
    for path in [*TEMPLATES, *(FRONTEND / "static").rglob("*.*s")]:
        found = [url for url in re.findall(r"https?://[^\s\"'<)]+", path.read_text()) if "w3.org" not in url]
        # what a placeholder shows or a link leads to; loaded by nobody
        own = (
            "http://127.0.0.1",
            "https://mlflow.example.com",
            "https://hooks.example.com",
            "https://www.standardwebhooks.com",
        )
        assert [url for url in found if not url.startswith(own)] == [], path
