"""A Storage Integration: a real HTTP server that answers as The Things Stack documents it."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from tests.samples import samples

KEY = "NNSXS.SECRETSECRETSECRET"
UP = next(s for s in samples("tts_v3") if s.name == "tts_v3/up")
Body = dict[str, Any]


class Request(NamedTuple):
    application: str
    query: dict[str, str]
    status: int


class StorageServer:
    """`faults` are taken one a request: they get the handler, and the lines that would be sent."""

    def __init__(self) -> None:
        self.uplinks: dict[str, list[Body]] = {}
        self.requests: list[Request] = []
        self.faults: list[Callable[[Any, list[bytes]], None]] = []
        self.most = 1_000_000
        self.ahead = timedelta(0)
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.answer(self)

            def date_time_string(self, timestamp: float | None = None) -> str:
                now = datetime.now(UTC) + server.ahead
                return now.strftime("%a, %d %b %Y %H:%M:%S GMT")

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients hang up
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, at: datetime, *, application: str = "starter-kit", count: int = 1, **more: Any) -> None:
        """Uplinks received from `at` on, a second apart."""
        kept = self.uplinks.setdefault(application, [])
        kept += [uplink(at + timedelta(seconds=n), application, len(kept) + n, **more) for n in range(count)]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        application = unquote(parts.path.split("/")[5])
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        status, lines = self._found(handler, application, query)
        self.requests.append(Request(application, query, status))
        if status != 200:
            problem(handler, status)
        elif self.faults:
            self.faults.pop(0)(handler, lines)
        else:
            stream(handler, lines)

    def _found(self, handler: Any, application: str, query: dict[str, str]) -> tuple[int, list[bytes]]:
        if handler.headers["authorization"] != f"Bearer {KEY}":
            return 401, []
        if application not in self.uplinks:
            return 403, []
        assert handler.headers["accept"] == "text/event-stream"
        assert query["order"] == "received_at"
        mask = query["field_mask"].split(",")
        after, before = (_time(query[name]) for name in ("after", "before"))
        found = [u for u in self.uplinks[application] if after < _time(u["received_at"]) < before]
        found.sort(key=lambda body: str(body["received_at"]))
        kept = found[: min(int(query["limit"]), self.most)]
        return 200, [json.dumps({"result": _masked(body, mask)}).encode() for body in kept]

    def __enter__(self) -> StorageServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def uplink(at: datetime, application: str, number: int, **more: Any) -> Body:
    """The sample as the server would have received it at this time, complete as MQTT brings it."""
    body: Body = copy.deepcopy(dict(UP.body))
    time = at.isoformat(timespec="microseconds").replace("+00:00", "123Z")
    body["end_device_ids"]["application_ids"]["application_id"] = application
    body["received_at"] = body["uplink_message"]["received_at"] = time
    body["uplink_message"]["settings"].pop("time")
    body["uplink_message"]["f_cnt"] = number
    return {**body, **more}


def head(handler: Any, status: int, kind: str, *headers: tuple[str, str]) -> None:
    handler.send_response(status)
    for name, value in (("content-type", kind), *headers):
        handler.send_header(name, value)
    handler.end_headers()


def chunk(handler: Any, data: bytes) -> None:
    handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


def stream(handler: Any, lines: list[bytes]) -> None:
    """Newline-delimited JSON, with the empty lines that the documentation shows between them."""
    head(handler, 200, "text/event-stream", ("transfer-encoding", "chunked"))
    for line in lines:
        chunk(handler, line + b"\n\n")
    handler.wfile.write(b"0\r\n\r\n")


def problem(handler: Any, status: int, *headers: tuple[str, str]) -> None:
    """With the key that came, which nobody may log."""
    code = {401: 16, 403: 7, 429: 8}.get(status, 2)
    message = f"said {handler.headers['authorization']}"
    body = json.dumps({"code": code, "message": message, "details": []}).encode()
    head(handler, status, "application/json", ("content-length", str(len(body))), *headers)
    handler.wfile.write(body)


def _masked(body: Body, mask: list[str]) -> Body:
    """Identifiers and time are always there."""
    names = {"end_device_ids", "received_at", *(path.removeprefix("up.") for path in mask)}
    return {name: value for name, value in body.items() if name in names}


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text[:26] + "+00:00" if len(text) > 27 else text)
