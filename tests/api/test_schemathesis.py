"""Random requests made from the OpenAPI document: no fault of the mesh, and only answers that the document says.

What random calls may do is bounded: few examples of each call, always the same ones, and waits that end soon.
"""

from __future__ import annotations

import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from shardy_common.stack import Stack
from shardy_gateway.app import make_app
from shardy_gateway.config import GatewaySettings
from shardy_gateway.jobs import FRAME_TYPE

EXAMPLES = 15
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
)
DOCUMENT = schemathesis.openapi.from_dict(make_app(GatewaySettings()).openapi())


@schemathesis.serializer(FRAME_TYPE)
def frame_bytes(_context: schemathesis.SerializationContext, value: object) -> bytes:
    """Random bytes as they are: next to none of them are a frame."""
    return value if isinstance(value, bytes) else repr(value).encode()


schemathesis.openapi.media_type(FRAME_TYPE, st.binary(max_size=200))


@DOCUMENT.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_random_calls(case: schemathesis.Case, stack: Stack) -> None:
    if isinstance(case.query.get("wait"), (int, float)):
        case.query["wait"] = min(case.query["wait"], 0.05)
    if case.path == "/v1/log/events":
        case.query["wait"] = 0.05  # it is a stream, and lasts an hour by itself
    operates = any(part in case.path for part in ("/keys", "/verifiers", "/dlq", "/log"))
    key = stack.operator_key if operates else stack.api_key
    checks = CHECKS
    if case.path == "/v1/log/events":  # the document describes the text of the stream, this check its single events
        checks = tuple(check for check in CHECKS if check is not response_schema_conformance)
    case.call_and_validate(base_url=stack.url, headers={"Authorization": f"Bearer {key}"}, checks=checks, timeout=60)
