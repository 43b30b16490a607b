"""A subscriber: a real HTTP server that keeps what it is sent and answers as told."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple

from standardwebhooks import Webhook


class Received(NamedTuple):
    headers: dict[str, str]
    body: bytes
    status: int


class Collector:
    """Listens on 127.0.0.1; `answer` is the status it gives."""

    def __init__(self) -> None:
        self.answer = 204
        self.received: list[Received] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                status = collector.answer
                headers = {k.lower(): v for k, v in self.headers.items()}
                collector.received.append(Received(headers, body, status))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def accepted(self, secret: str) -> list[dict[str, Any]]:
        """Bodies answered with 2xx, in order of arrival, each verified by the standardwebhooks package."""
        verifier = Webhook(secret)
        return [verifier.verify(r.body, r.headers) for r in list(self.received) if r.status < 300]

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
