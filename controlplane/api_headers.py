"""The headers that the middleware puts on every answer, written into the document once and referred to."""

from __future__ import annotations

from typing import Any

HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": {
        "description": "Yours, or one made for you; it stands in our log.",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": 'The bucket of this class of calls: `"read";q=10000;w=5`, so many, full again after w seconds.',
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": 'What is left in it: `"read";r=9990;t=1`, r calls now, full again in t seconds.',
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "Seconds until a repetition may help.", "schema": {"type": "integer"}},
}
WAITS = frozenset({"429", "503"})


def headers_of_every_answer(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """A postprocessing hook of drf-spectacular."""
    result.setdefault("components", {})["headers"] = HEADERS
    for item in result["paths"].values():
        for operation in item.values():
            for status, answer in operation.get("responses", {}).items():
                names = [name for name in HEADERS if name != "Retry-After" or status in WAITS]
                given = answer.setdefault("headers", {})
                for name in names:
                    given.setdefault(name, {"$ref": f"#/components/headers/{name}"})
    return result
