"""JSON as RFC 8259 means it and PostgreSQL can keep it; REST framework's own parser lets through what ends as a 500."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import JSONParser

MAX_BODY_BYTES = 1024 * 1024
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # an escaped NUL, not the six characters of one after a backslash


class BodyTooLarge(APIException):
    status_code = 413
    default_code = "body_too_large"
    default_detail = f"A request has at most {MAX_BODY_BYTES:,} bytes."


class StrictJsonParser(JSONParser):
    """JSON as RFC 8259 means it, that PostgreSQL can keep: no infinity (1e999), no NUL, no half of a surrogate pair, no
    name twice, at most MAX_BODY_BYTES. REST framework's own would let these through, to end as a 500 further down."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        raw = stream.read(MAX_BODY_BYTES + 1)
        if len(raw) > MAX_BODY_BYTES:
            raise BodyTooLarge
        try:
            data = json.loads(
                raw.decode("utf-8"),
                object_pairs_hook=_object,
                parse_float=_finite,
                parse_constant=_no_constant,
            )
            _check_text(json.dumps(data, ensure_ascii=False))
        except RecursionError as error:
            raise ParseError("The JSON is nested too deeply.") from error
        except ValueError as error:
            raise ParseError(f"The body is not acceptable JSON: {error}") from error
        return data


def _check_text(text: str) -> None:
    text.encode("utf-8")  # UnicodeEncodeError, a ValueError, for a lone surrogate anywhere
    if _NUL.search(text):
        raise ValueError("a text contains the character NUL")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a member twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large a number")
    return value


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")
