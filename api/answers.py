"""Long answers, written without a model for every row; the route's `response_model` documents them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import Response

_encoder = msgspec.json.Encoder()


def json_answer(content: Any) -> Response:
    """`content` as JSON: times in UTC as RFC 3339, NaN as null."""
    return Response(_encoder.encode(content), media_type="application/json")


def page_answer(items: Sequence[Any], following: str | None) -> Response:
    """A page as `api.paging.Page` describes it."""
    return json_answer({"items": items, "next": following})
