"""The promise of /api/v1 as data, and what breaks it. Write it anew after an addition:

python -m tests.api.contract
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SNAPSHOT = Path(__file__).with_name("contract.json")
METHODS = ("get", "put", "post", "patch", "delete")


def contract_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Per operation id: where it is, what it takes (name -> required), what its answers and errors are made of."""
    schemas = document["components"]["schemas"]
    found = {}
    for path, item in document["paths"].items():
        for method in METHODS:
            if method not in item:
                continue
            operation = item[method]
            parameters = [one for one in operation.get("parameters", ()) if one["in"] != "path"]
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            found[operation["operationId"]] = {
                "at": f"{method.upper()} {path}",
                "parameters": {f"{one['in']} {one['name']}": one.get("required", False) for one in parameters},
                "body": {name: required for name, _, required in _fields(body, schemas)},
                "answers": {
                    status: {name: kind for name, kind, _ in _fields(_content(answer), schemas)}
                    for status, answer in operation["responses"].items()
                    if status < "400"
                },
                "errors": sorted(status for status in operation["responses"] if status >= "400"),
            }
    return dict(sorted(found.items()))


def breaks(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What a caller of ``before`` would stumble over in ``after``, one sentence each."""
    found = []
    for name, old in before.items():
        new = after.get(name)
        if new is None:
            found.append(f"{name} is gone")
            continue
        if new["at"] != old["at"]:
            found.append(f"{name} has moved from {old['at']} to {new['at']}")
        for part in ("parameters", "body"):
            found += [f"{name} takes no {field} any more" for field in sorted(old[part].keys() - new[part].keys())]
            found += [
                f"{name} demands {field} now"
                for field, is_required in new[part].items()
                if is_required and not old[part].get(field, False)
            ]
        for status, fields in old["answers"].items():
            given = new["answers"].get(status)
            if given is None:
                found.append(f"{name} answers no {status} any more")
                continue
            found += [f"{name} {status} has no {field} any more" for field in sorted(fields.keys() - given.keys())]
            found += [
                f"{name} {status} gives {field} as {given[field]}, not {kind}"
                for field, kind in fields.items()
                if field in given and given[field] != kind
            ]
    return found


def _content(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    content = answer.get("content", {})
    schema: Mapping[str, Any] = content.get("application/json", {}).get("schema", {})
    return schema


def _fields(
    schema: Mapping[str, Any], schemas: Mapping[str, Any], prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, str, bool]]:
    """(dotted name, type, required), lists as ``name[]``; a field of an optional object is not required."""
    schema = _resolved(schema, schemas)
    if schema.get("type") == "array":
        yield from _fields(schema["items"], schemas, f"{prefix}[]", depth)
        return
    required = set(schema.get("required", ())) if depth == 0 else set()
    for name, inner in schema.get("properties", {}).items():
        full = f"{prefix}.{name}" if prefix else name
        yield full, _type(inner, schemas), name in required
        if depth < 6:
            yield from _fields(inner, schemas, full, depth + 1)


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    while True:
        one = [part for part in schema.get("oneOf", schema.get("allOf", ())) if part.get("type") != "null"]
        if "$ref" in schema:
            schema = schemas[schema["$ref"].rsplit("/", 1)[1]]
        elif one and "properties" not in schema:
            schema = one[0]
        else:
            return schema


def _type(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    kind = _resolved(schema, schemas).get("type", "any")
    return " or ".join(sorted(kind)) if isinstance(kind, list) else str(kind)


def write() -> None:
    """The document as it is now becomes the promise."""
    from controlplane.api_urls import openapi

    SNAPSHOT.write_text(json.dumps(contract_of(openapi()), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    import os

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    import django

    django.setup()
    write()
