"""What a call of the MLflow protocol carries, read field by field. Unknown fields are ignored, as the protocol asks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import orjson

from apps.kernel.errors import InvalidInput

MAX_BODY = 2 * 1024 * 1024
_HINT = " See the API docs for more information about request parameters."


class Asked:
    """The fields of one request: of the query for GET, of the JSON body else."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    @classmethod
    def of(cls, method: str, query: bytes, body: bytes) -> Asked:
        """Raises InvalidInput for what cannot be read."""
        if method == "GET":
            try:
                parsed = parse_qs(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=200)
            except ValueError as error:
                raise InvalidInput("bad_query", "The query is not readable as UTF-8 form data.") from error
            return cls({key: values if len(values) > 1 else values[0] for key, values in parsed.items()})
        if not body.strip():
            return cls({})
        try:
            fields = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise InvalidInput("bad_json", f"The body is not JSON: {error}.") from error
        if not isinstance(fields, dict):
            raise InvalidInput("bad_json", "The body is not a JSON object.")
        return cls(fields)

    def with_field(self, name: str, value: str) -> Asked:
        return Asked({**self._fields, name: value})

    def has(self, name: str) -> bool:
        return self._fields.get(name) is not None

    def text(self, name: str, default: str | None = None) -> str:
        """A text; without a default it must be there and not be empty."""
        value = self._fields.get(name)
        if value is None or (value == "" and default is None):
            if default is None:
                raise _fault(name, f"Missing value for required parameter '{name}'.")
            return default
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise _wrong(name, value)
        text = str(value)
        if "\0" in text:
            raise _fault(name, f"Invalid value for parameter '{name}': it holds a NUL character.")
        return text

    def number(self, name: str, default: int, low: int, high: int) -> int:
        value = self._fields.get(name)
        if value is None or value == "":
            return default
        if isinstance(value, bool) or not re.fullmatch(r"-?\d{1,18}", str(value), re.ASCII):
            raise _wrong(name, value)
        number = int(value)
        if number > high:
            detail = f"Invalid value for request parameter {name}. It must be at most {high}, but got value {number}"
            raise _fault(name, detail, hint="")
        if number < low:
            detail = f"Invalid value for {name}. It must be a positive integer, but got {number}"
            raise _fault(name, detail, hint="")
        return number

    def version(self) -> int:
        """The number of a version; a text of digits."""
        text = self.text("version")
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            detail = f"Parameter 'version' must be an integer, got '{text[:80]}'."
            raise InvalidInput.at("/version", "bad_value", detail)
        return int(text)

    def flag(self, name: str) -> bool:
        value = self._fields.get(name, False)
        if value is None:
            return False
        if value in (True, "true", "True"):
            return True
        if value in (False, "false", "False"):
            return False
        raise _wrong(name, value)

    def texts(self, name: str) -> list[str]:
        value = self._fields.get(name)
        if value is None or value == "":
            return []
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(one, str) and "\0" not in one for one in values) or len(values) > 100:
            raise _wrong(name, value)
        return values

    def objects(self, name: str) -> list[dict[str, Any]]:
        value = self._fields.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value) or len(value) > 1000:
            raise _wrong(name, value)
        return value

    def tags(self) -> dict[str, str]:
        found = {}
        for one in self.objects("tags"):
            tag = Asked(one)
            found[tag.text("key")] = tag.text("value", "")
        return found

    def part(self, name: str) -> Asked | None:
        value = self._fields.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise _wrong(name, value)
        return Asked(value)


def _wrong(name: str, value: Any) -> InvalidInput:
    shown = repr(value)[:80]
    detail = f"Invalid value {shown} for parameter '{name}' supplied: Hint: Value was of type '{type(value).__name__}'."
    return _fault(name, detail)


def _fault(name: str, detail: str, hint: str = _HINT) -> InvalidInput:
    return InvalidInput.at(f"/{name}", "bad_value", detail + hint)
