"""Markdown of people as safe HTML, and the card that a version has before anybody has written one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from django.utils.safestring import SafeString
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from apps.registry.models import ModelVersion
from apps.registry.web.shown import called

MAX_RENDERED = 200_000
_SCHEMES = ("http://", "https://", "mailto:", "#", "/")
_DEEPEST = 6


class _Renderer(RendererHTML):
    """Nothing of the author's becomes markup of ours: no raw HTML, no images, no styles, no headings above h3."""

    def link_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        token = tokens[idx]
        token.attrSet("rel", "noopener nofollow")
        return self.renderToken(tokens, idx, options, env)

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """A picture from elsewhere would tell that place who reads; its words stay."""
        return self.renderInlineAsText(tokens[idx].children or [], options, env)

    def renderToken(  # noqa: N802 - the name of the parent's method
        self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType
    ) -> str:
        token = tokens[idx]
        token.attrs.pop("style", None)
        return super().renderToken(tokens, idx, options, env)


@lru_cache(maxsize=1)
def _reader() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable(["table", "strikethrough"])
    reader.validateLink = lambda url: url.strip().lower().startswith(_SCHEMES)  # type: ignore[method-assign]
    return reader


def markdown(text: str) -> SafeString:
    """HTML of a text in Markdown; what is cut says so."""
    shown = text if len(text) <= MAX_RENDERED else f"{text[:MAX_RENDERED]}\n\n*The rest is not shown.*"
    env: dict[str, Any] = {}
    tokens = _reader().parse(shown, env)
    headings = [token for token in tokens if token.type in {"heading_open", "heading_close"}]
    highest = min((int(token.tag[1]) for token in headings), default=1)
    for token in headings:
        # Below the h2 of the page that it stands under, whatever the author began with.
        token.tag = f"h{min(_DEEPEST, int(token.tag[1]) - highest + 3)}"
    html = str(_reader().renderer.render(tokens, _reader().options, env))
    return SafeString(html)  # markdown-it with html off escapes every text of the author


def plain(text: str, limit: int = 120) -> str:
    """The first paragraph of a text in Markdown as words on one line, for tables."""
    for token in _reader().parse(text[:2000], {}):
        if token.type == "inline" and token.children:
            renderer = _Renderer()
            shown = " ".join(renderer.renderInlineAsText(token.children, _reader().options, {}).split())
            return shown if len(shown) <= limit else f"{shown[: limit - 1].rstrip()}…"
    return ""


def skeleton(version: ModelVersion) -> str:
    """A card from what is known, with the questions that only a person can answer. Reads ``model.team``, ``parent``."""
    parts = [
        f"## What it does\n{version.description or '_One paragraph: what is predicted, for whom, from what._'}",
        "## Where it should not be used\n_Groups, places or times that the training data does not cover._",
        f"## Training\n{_lines(_training(version))}",
    ]
    parts.append(f"## Owner\nTeam {version.model.team.slug}, registered by {version.created_by}.")
    return "\n\n".join(parts)


def _training(version: ModelVersion) -> list[tuple[str, str]]:
    parent = called(version.parent)
    known = [
        ("Framework", version.flavor),
        ("Run", version.run_id),
        ("Commit", version.git_commit),
        ("Built from", parent),
        ("Data", version.metrics_data_digest),
    ]
    return [(name, value) for name, value in known if value]


def _lines(known: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- {name}: `{_cell(value)}`" for name, value in known) or "_Which data, which code, which seed._"


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("`", "'").replace("\n", " ")
