"""What Envoy writes down of requests: of all where it is wished, and always of those that no process answered."""

from __future__ import annotations

from typing import Any

_FILE_LOG = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
# Why Envoy answered itself where a variant should have: nobody healthy (UH), no connection (UF), broken connection (UC,
# UR, LR, UPE), too many (UO), retries (URX) or time used up (UT, SI). unserved_counts.py decides what of it is counted.
UNSERVED_FLAGS = ("LR", "SI", "UC", "UF", "UH", "UO", "UPE", "UR", "URX", "UT")


def unserved_log(path: str) -> dict[str, Any]:
    """One line per request of a caller that ended with one of the flags; a retry that succeeded leaves none."""
    fields = {
        "at": "%START_TIME%",
        "cluster": "%UPSTREAM_CLUSTER%",
        "route": "%ROUTE_NAME%",
        "flags": "%RESPONSE_FLAGS%",
        "status": "%RESPONSE_CODE%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "loading": "%RESP(X-PILOTHOUSE-LOADING)%",
        "duration_ms": "%DURATION%",
    }
    return _file_log(path, fields) | {"filter": {"response_flag_filter": {"flags": list(UNSERVED_FLAGS)}}}


def access_log(path: str) -> dict[str, Any]:
    fields = {
        "at": "%START_TIME%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "duration_ms": "%DURATION%",
        "cluster": "%UPSTREAM_CLUSTER%",
        "upstream": "%UPSTREAM_HOST%",
    }
    return _file_log(path, fields)


def _file_log(path: str, fields: dict[str, str]) -> dict[str, Any]:
    typed = {
        "@type": _FILE_LOG,
        "path": path,
        "log_format": {"json_format": fields},
    }
    return {"name": "envoy.access_loggers.file", "typed_config": typed}
