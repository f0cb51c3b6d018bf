"""Real servers that receive alerts: a mail server, and a web server that stands for Slack and Teams."""

from __future__ import annotations

import email
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope

from scripts.local_airflow import free_port


@dataclass
class Mails:
    """A mail server on this machine; what it was given, oldest first."""

    port: int
    received: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802 - its API
        self.received.append(cast(EmailMessage, email.message_from_bytes(envelope.content or b"", policy=default)))
        self.recipients.append(list(envelope.rcpt_tos))
        return "250 OK"

    @property
    def connection(self) -> str:
        extra = {"from_email": "airflow@example.org", "disable_ssl": True, "disable_tls": True, "retry_limit": 0}
        return json.dumps({"conn_type": "smtp", "host": "127.0.0.1", "port": self.port, "extra": extra})

    def pages(self) -> list[tuple[str, str]]:
        """Subject and HTML of each mail."""
        return [(str(mail["Subject"]), part.get_content()) for mail in self.received if (part := mail.get_body())]


HOOK, API, CARD = "/hook/T0/B0/geheim", "/api/chat.postMessage", "/workflows/geheim"
"""Where a Slack webhook, the Slack API and a Teams workflow are told; `geheim` is what must not be told on."""


@dataclass
class Posts:
    """A web server on this machine; path -> bodies that were posted there, and how it answers them."""

    port: int
    received: dict[str, list[Any]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def at(self, path: str) -> list[Any]:
        return self.received.get(path, [])

    @property
    def connections(self) -> dict[str, str]:
        found = {
            "slack_hook": {"conn_type": "slackwebhook", "password": self.url(HOOK)},
            "slack_api": {"conn_type": "slack", "password": "xoxb-geheim", "extra": {"base_url": self.url("/api/")}},
            "teams": {"conn_type": "http", "password": self.url(CARD)},
        }
        return {name: json.dumps(value) for name, value in found.items()}


@contextmanager
def mail_server() -> Iterator[Mails]:
    mails = Mails(free_port())
    controller = Controller(mails, hostname="127.0.0.1", port=mails.port)
    controller.start()
    try:
        yield mails
    finally:
        controller.stop()


@contextmanager
def web_server() -> Iterator[Posts]:
    posts = Posts(0)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posts.headers.update(self.headers)
            posts.received.setdefault(self.path, []).append(json.loads(body))
            answer = b'{"ok": true}' if self.path.startswith("/api/") else b"ok"
            self.send_response(posts.status.get(self.path, 200))
            self.send_header("Content-Type", "application/json" if answer != b"ok" else "text/plain")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        posts.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield posts
        finally:
            server.shutdown()


@contextmanager
def silent_server() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])
