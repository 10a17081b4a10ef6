"""What every API view shares: strict bodies and query parameters, cursor pages, entity tags, dry runs, and the
documentation of all that. Views import from here; the files beside it are one subject each."""

from __future__ import annotations

from apps.kernel.rest import names as _names  # registers <name:…> for addresses
from apps.kernel.rest.documents import operation, page_schema
from apps.kernel.rest.faults import faults_of
from apps.kernel.rest.fields import (
    StrictBoolean,
    StrictChar,
    StrictDateTime,
    StrictFloat,
    StrictInteger,
    StrictObject,
    StrictSerializer,
)
from apps.kernel.rest.json_body import MAX_BODY_BYTES, BodyTooLarge, StrictJsonParser
from apps.kernel.rest.moments import iso
from apps.kernel.rest.paging import LIMIT, MAX_LIMIT, PageQuery, page_of
from apps.kernel.rest.problem_schema import Problem, ProblemField
from apps.kernel.rest.reading import actor_of, body_of, query_of
from apps.kernel.rest.rehearsal import DryRunQuery, rehearsable
from apps.kernel.rest.tags import if_match, with_etag
from apps.kernel.rest.views import ApiView

NameConverter = _names.NameConverter

__all__ = [
    "LIMIT",
    "MAX_BODY_BYTES",
    "MAX_LIMIT",
    "ApiView",
    "BodyTooLarge",
    "DryRunQuery",
    "NameConverter",
    "PageQuery",
    "Problem",
    "ProblemField",
    "StrictBoolean",
    "StrictChar",
    "StrictDateTime",
    "StrictFloat",
    "StrictInteger",
    "StrictJsonParser",
    "StrictObject",
    "StrictSerializer",
    "actor_of",
    "body_of",
    "faults_of",
    "if_match",
    "iso",
    "operation",
    "page_of",
    "page_schema",
    "query_of",
    "rehearsable",
    "with_etag",
]
