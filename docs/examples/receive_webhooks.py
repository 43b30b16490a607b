"""Receives Quantrac's webhooks and shows what they say: python receive_webhooks.py whsec_… [port]."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

seen: set[str] = set()  # a real receiver keeps these in its database


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to what is genuine, 400 to anything else; Quantrac tries again after anything but 2xx."""

    webhook: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            self.webhook.verify(body, dict(self.headers.items()))
        except WebhookVerificationError as error:
            self.send_error(400, str(error))
            return
        if self.headers["webhook-id"] not in seen:
            self.handle_message(json.loads(body))
            seen.add(self.headers["webhook-id"])
        self.send_response(204)
        self.end_headers()

    def handle_message(self, message: dict) -> None:
        """`message` is {"type", "timestamp", "data"}; put what must happen here, and be quick."""
        alert = message["data"].get("alert")
        station = message["data"].get("station") or {}
        told = f"{station.get('name')}: {alert['label']}, {alert['value']} {alert['unit']}" if alert else ""
        self.log_message("%s %s", message["type"], told)

    def log_request(self, *_: object) -> None:
        """Quiet: the messages themselves are shown."""


if __name__ == "__main__":
    Receiver.webhook = Webhook(sys.argv[1])
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 9000
    ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()
