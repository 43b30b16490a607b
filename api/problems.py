"""Every error as RFC 9457 problem details (https://www.rfc-editor.org/rfc/rfc9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from psycopg_pool import PoolClosed, PoolTimeout
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from telemetry.errors import ConflictError, ForbiddenAddress, NotFound, QuantracError, UsageError

TYPE_PREFIX = "/problems/"
RETRY_SECONDS = "2"


class FieldProblem(BaseModel):
    """One field that cannot stand as it is; `field` is its path (``thresholds.water.level.0.value``)."""

    field: str
    problem: str


class ProblemView(BaseModel):
    """The body of every answer that is not a success."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = Field(description="The path that was asked for, or the name of an entry in our log.")
    errors: list[FieldProblem] | None = None


class Problem(Exception):
    """Ends a request with this status; `slug` becomes the last part of the problem's type."""

    def __init__(
        self,
        status: int,
        slug: str,
        detail: str,
        *,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})


def not_found(what: str, key: object) -> Problem:
    return Problem(404, "not-found", f"There is no {what} {str(key)[:100]!r}.")


def invalid(field: str, problem: str) -> Problem:
    """One field of the request is wrong in a way only the database or another room could tell."""
    return invalid_fields([FieldProblem(field=field, problem=problem)])


def invalid_fields(errors: Sequence[FieldProblem]) -> Problem:
    detail = "; ".join(f"{error.field}: {error.problem}" for error in errors)
    return Problem(422, "invalid", detail, errors=errors)


def usage_problem(error: UsageError) -> Problem:
    """A room's own check of a definition: one fault a line, each ``path: message``."""
    errors = []
    for line in str(error).splitlines():
        path, found, message = line.partition(": ")
        errors.append(
            FieldProblem(field=path, problem=message)
            if found and " " not in path
            else FieldProblem(field="body", problem=line)
        )
    return invalid_fields(errors)


def respond(problem: Problem, instance: str) -> JSONResponse:
    view = ProblemView(
        type=TYPE_PREFIX + problem.slug,
        title=HTTPStatus(problem.status).phrase,
        status=problem.status,
        detail=problem.detail,
        instance=instance,
        errors=problem.errors or None,
    )
    return JSONResponse(
        view.model_dump(exclude_none=True),
        status_code=problem.status,
        headers=problem.headers,
        media_type="application/problem+json",
    )


def install(app: FastAPI) -> None:
    """Answer every exception this room expects; what is left over is `api.middleware.Boundary`'s."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        return respond(_problem_of(error), request.url.path)

    for kind in (
        Problem,
        HTTPException,
        RequestValidationError,
        QuantracError,
        psycopg.OperationalError,
        psycopg.DataError,
        PoolTimeout,
        PoolClosed,
    ):
        app.add_exception_handler(kind, answer)


def _problem_of(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return invalid_fields([_field_problem(fault) for fault in error.errors()])
        case HTTPException():
            return _of_framework(error)
        case NotFound():
            return Problem(404, "not-found", str(error))
        case ConflictError():
            return Problem(409, "conflict", str(error))
        case UsageError():
            return usage_problem(error)
        case ForbiddenAddress():
            return Problem(422, "forbidden-address", str(error))
        case psycopg.errors.QueryCanceled():
            return _unavailable("The query took too long; ask for less at once.")
        case psycopg.DataError():
            return Problem(422, "invalid", "A value of the request cannot be stored or compared as it is.")
        case psycopg.OperationalError() | PoolTimeout() | PoolClosed():
            return _unavailable("The database cannot be reached just now.")
        case _:
            return Problem(500, "internal", "The request failed.")


def _unavailable(detail: str) -> Problem:
    return Problem(503, "unavailable", detail, headers={"Retry-After": RETRY_SECONDS})


def _of_framework(error: HTTPException) -> Problem:
    phrase = HTTPStatus(error.status_code).phrase
    detail = str(error.detail) if error.detail and error.detail != phrase else f"{phrase}."
    return Problem(error.status_code, phrase.lower().replace(" ", "-"), detail, headers=error.headers)


def _field_problem(fault: Mapping[str, Any]) -> FieldProblem:
    # The input itself is never echoed: it may be a password, or text that no JSON answer can hold.
    place, *path = fault["loc"]
    if fault["type"] == "json_invalid":
        return FieldProblem(field="body", problem="is not valid JSON")
    message = str(fault["msg"]).removeprefix("Value error, ")
    return FieldProblem(field=".".join(str(part) for part in path) or str(place), problem=message)
