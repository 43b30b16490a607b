"""One request to the Storage Integration of The Things Stack, read line by line.

API: https://www.thethingsindustries.com/docs/integrations/storage/retrieve/ — JSON objects, one a line:
``{"result": {…}}`` for an uplink, ``{"error": {…}}`` where the server gives up. Limits:
https://www.thethingsindustries.com/docs/enterprise/management/rate-limiting/
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import msgspec

from telemetry.errors import BadMessage, QuantracError

from ..adapters.base import parse_time
from .http import TtsIds
from .tts_settings import Application

MOST_LINE = 2**20
_MOST_ERROR = 4096
_LONGEST_WAIT = 900.0
_FIELDS = "up.uplink_message,simulated"
_ACCEPT = "text/event-stream"
_CURES = {
    401: "make an API key with the right to read application traffic; set QUANTRAC_TTS_STORAGE_SECRET",
    403: "give the API key the right to read application traffic of this application",
    404: "check QUANTRAC_TTS_STORAGE_APPLICATIONS; activate the Storage Integration of the application",
    501: "this server has no Storage Integration: leave QUANTRAC_TTS_STORAGE_URL empty",
}
_CURE = "check QUANTRAC_TTS_STORAGE_URL"
_OF_GRPC = {5: 404, 7: 403, 8: 429, 12: 501, 16: 401}
_PASSING = frozenset({408, 425, 429})


class Refused(QuantracError):
    """Asking again is in vain until somebody does what `cure` says."""

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(problem)
        self.cure = cure


class Interrupted(QuantracError):
    """The server is busy, away, or broke off; `wait` are the seconds it asks for, if it does."""

    retryable = True

    def __init__(self, problem: str, wait: float | None = None) -> None:
        super().__init__(problem)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Stored:
    """An uplink as the storage gives it; `received_at` is the application server's."""

    payload: bytes
    received_at: datetime | None
    device: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """An answer; `answered_at` by the server's clock, to the second."""

    answered_at: datetime | None
    uplinks: AsyncIterator[Stored]


class _Error(msgspec.Struct):
    message: str = ""
    code: int = 0
    grpc_code: int = 0


class _Line(msgspec.Struct):
    result: msgspec.Raw = msgspec.Raw(b"")
    error: _Error | None = None


class _Result(msgspec.Struct):
    received_at: str | None = None
    end_device_ids: TtsIds | None = None


_LINE = msgspec.json.Decoder(_Line)
_RESULT = msgspec.json.Decoder(_Result)
_ERROR = msgspec.json.Decoder(_Error)


@asynccontextmanager
async def opened(
    client: httpx.AsyncClient, application: Application, after: datetime, before: datetime, limit: int
) -> AsyncIterator[Page]:
    """The first `limit` uplinks received after and before these times, oldest first.

    Raises:
        Refused: the key, the application or the address is wrong.
        Interrupted: it should be asked again later; also while the uplinks are read.
        httpx.HTTPError: it cannot be reached; also while the uplinks are read.
    """
    query = {
        "after": _rfc_3339(after),
        "before": _rfc_3339(before),
        "limit": str(limit),
        "order": "received_at",
        "field_mask": _FIELDS,
    }
    headers = {"Authorization": f"Bearer {application.secret}", "Accept": _ACCEPT}
    async with client.stream("GET", application.url, params=query, headers=headers) as response:
        if response.status_code != httpx.codes.OK:
            raise await _error_of(response, application)
        if response.headers.get("content-type", "").startswith("text/html"):
            raise Refused("it answers with a web page", _CURE)
        async with aclosing(_uplinks(response, application)) as uplinks:
            yield Page(_date(response.headers.get("date")), uplinks)


async def _uplinks(response: httpx.Response, application: Application) -> AsyncGenerator[Stored, None]:
    async for line, whole in _lines(response):
        try:
            found = _LINE.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if not whole:
                raise Interrupted("the answer breaks off within an uplink") from None
            yield Stored(line, None, None)  # it becomes a reject, and the uplinks behind it are read
            continue
        if found.error is not None:
            code = found.error.grpc_code or found.error.code
            raise _failure(_OF_GRPC.get(code, 500), found.error.message, application)
        if payload := bytes(found.result):
            yield _stored(payload)


def _stored(payload: bytes) -> Stored:
    try:
        head = _RESULT.decode(payload)
        ids = head.end_device_ids
        return Stored(payload, parse_time(head.received_at, "received_at"), ids.device_id if ids else None)
    except (msgspec.DecodeError, BadMessage):
        return Stored(payload, None, None)


async def _lines(response: httpx.Response) -> AsyncIterator[tuple[bytes, bool]]:
    """Lines that hold something, and whether they were ended; no more than one is in memory."""
    rest = b""
    async for data in response.aiter_bytes():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.strip():
                yield line.strip(), True
        if len(rest) > MOST_LINE:
            raise Interrupted(f"a line is longer than {MOST_LINE} bytes")
    if rest.strip():
        yield rest.strip(), False


async def _error_of(response: httpx.Response, application: Application) -> QuantracError:
    body = b""
    async for data in response.aiter_bytes():
        body += data
        if len(body) >= _MOST_ERROR:
            break
    try:
        message = _ERROR.decode(body).message
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message = response.reason_phrase
    return _failure(response.status_code, message, application, _wait(response.headers))


def _failure(status: int, message: str, application: Application, wait: float | None = None) -> QuantracError:
    said = " ".join(message.replace(application.secret, "…").split())[:200]
    problem = f"status {status}: {said}" if said else f"status {status}"
    if status in _PASSING or (status >= 500 and status not in _CURES):
        return Interrupted(problem, wait)
    return Refused(problem, _CURES.get(status, _CURE))


def _wait(headers: httpx.Headers) -> float | None:
    """The seconds the server asks for, at most a quarter of an hour; the documented header first."""
    for name in ("x-rate-limit-retry", "retry-after", "x-rate-limit-reset"):
        try:
            return min(max(float(headers[name]), 1.0), _LONGEST_WAIT)
        except (KeyError, ValueError):
            continue
    return None


def _date(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text).astimezone(UTC) if text else None
    except (ValueError, OverflowError):
        return None


def _rfc_3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
