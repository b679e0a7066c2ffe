"""A site on this machine: read-only, for a browser that was given its secret."""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Lock
from time import monotonic
from typing import Any
from urllib.parse import parse_qs

from qn_tracking.errors import QnError, UnsupportedError, describe
from qn_tracking.files import cause_of, inside, load
from qn_tracking.render.site import POLICY

ADDRESS = "127.0.0.1"
NAMES = (ADDRESS, "localhost")
"""What a browser on this machine may call it. Any other name leads here by a trick with DNS."""
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_NAME = "[A-Za-z0-9][A-Za-z0-9._-]*"
_PATH = re.compile(rf"/(?:{_NAME}/)*{_NAME}\.({'|'.join(TYPES)})")
"""The pages of a site and its shared files. Nothing is decoded: no page needs it."""
HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
ENTER = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={0}">
<title>qn-exp ui</title></head><body><a href="{0}">Continue</a></body></html>
"""
"""Takes the secret out of the address. After a redirect in its place, a browser that came from
another site would not send the cookie."""


class SiteServer(ThreadingHTTPServer):
    """Serves the pages in a folder, until it is closed.

    `url` has the secret, which becomes a cookie. `refresh` is called with the name of a page before
    it is sent, so that it is up to date; `warn` gets a line if it fails, and the page is sent as
    it was.
    """

    daemon_threads = True
    allow_reuse_port = False

    def __init__(
        self,
        folder: str,
        *,
        port: int,
        refresh: Callable[[str], object],
        warn: Callable[[str], None],
        start: str = "index.html",
    ) -> None:
        """Raises UnsupportedError if the port is taken; port 0 is any that is free."""
        self.folder, self.start = folder, start
        self._refresh, self._warn = refresh, warn
        self._lock, self._began = Lock(), ("", 0.0)
        self.secret = secrets.token_urlsafe(32)
        self._tickets: set[str] = set()
        try:
            super().__init__((ADDRESS, port), _Request)
        except OSError as error:
            hint = "--port 0 takes one that is free"
            raise UnsupportedError(cause_of(error), file=f"port {port}", hint=hint) from None
        self.hosts = {f"{name}:{self.server_port}" for name in NAMES}

    def server_bind(self) -> None:
        """Without asking DNS what this machine is called."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    @property
    def url(self) -> str:
        """The address to open, with the secret."""
        return self._address(self.secret)

    def url_for_once(self) -> str:
        """An address that can be opened once.

        With this a browser is started: other users see the arguments of a program.
        """
        ticket = secrets.token_urlsafe(32)
        self._tickets.add(ticket)
        return self._address(ticket)

    def _address(self, token: str) -> str:
        return f"http://{ADDRESS}:{self.server_port}/?token={token}"

    def lets_in(self, token: str) -> bool:
        """Whether this is the secret, or a ticket that was not used; it is used now."""
        try:
            self._tickets.remove(token)
        except KeyError:
            return self.is_secret(token)
        return True

    def is_secret(self, text: str) -> bool:
        """Whether this is the secret; it takes as long for any text."""
        return secrets.compare_digest(text.encode(errors="replace"), self.secret.encode())

    @property
    def cookie(self) -> str:
        """The name of the cookie: cookies of one machine are the same for all of its ports."""
        return f"qn-ui-{self.server_port}"

    def refresh(self, name: str) -> None:
        """Brings a page up to date, unless that has begun since this was called."""
        called = monotonic()
        with self._lock:
            latest, began = self._began
            if latest == name and began >= called:
                return
            self._began = name, monotonic()
            try:
                self._refresh(name)
            except Exception as error:
                text = str(error) if isinstance(error, QnError) else describe(error)
                self._warn(f"{name} was not made again: {text}")

    def server_close(self) -> None:
        """Ends once no page is being written."""
        super().server_close()
        with self._lock:
            pass

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that has gone away is no error."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, (ConnectionError, TimeoutError)):
            self._warn(describe(error))


class _Request(BaseHTTPRequestHandler):
    server: SiteServer
    server_version, sys_version = "qn-exp", ""
    timeout = 30

    def __getattr__(self, name: str) -> Any:
        """Every other method than GET and HEAD, for the class above."""
        if name.startswith("do_"):
            return self._refused
        raise AttributeError(name)

    def do_GET(self) -> None:
        if not self._is_asked_here():
            return
        path, _, query = self.path.partition("?")
        if path == "/":
            path = f"/{self.server.start}"
        found = _PATH.fullmatch(path)
        if self.server.lets_in(parse_qs(query).get("token", [""])[0]):
            if found is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            cookie = f"{self.server.cookie}={self.server.secret}"
            self._send(
                HTTPStatus.OK,
                "html",
                ENTER.format(path).encode(),
                {"Set-Cookie": f"{cookie}; Path=/; HttpOnly; SameSite=Strict"},
            )
        elif not any(map(self.server.is_secret, self._cookies())):
            self.send_error(HTTPStatus.FORBIDDEN, "open the address that qn-exp ui has printed")
        else:
            data = None if found is None else self._file(path, found[1])
            if found is None or data is None:
                self.send_error(HTTPStatus.NOT_FOUND)
            else:
                self._send(HTTPStatus.OK, found[1], data)

    do_HEAD = do_GET

    def _is_asked_here(self) -> bool:
        """Whether the browser means this machine, and no page of another site asks."""
        if self.headers.get_all("Host", []) not in [[host] for host in self.server.hosts]:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return False
        origins = {f"http://{host}" for host in self.server.hosts}
        if not set(self.headers.get_all("Origin", [])) <= origins:
            self.send_error(HTTPStatus.FORBIDDEN, "another site asks")
            return False
        return True

    def _refused(self) -> None:
        if self._is_asked_here():
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)

    def _cookies(self) -> list[str]:
        texts = ";".join(self.headers.get_all("Cookie", [])).split(";")
        pairs = [text.strip().partition("=") for text in texts]
        return [value for name, _, value in pairs if name == self.server.cookie]

    def _file(self, path: str, kind: str) -> bytes | None:
        if kind == "html":
            self.server.refresh(path.removeprefix("/"))
        *folders, name = path.removeprefix("/").split("/")
        try:
            return load(os.path.join(inside(self.server.folder, *folders), name))[0]
        except (QnError, OSError):  # it is not there, or a link
            return None

    def _send(
        self, status: HTTPStatus, kind: str, data: bytes, more: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        about = {"Content-Type": f"{TYPES.get(kind, 'text/plain')}; charset=utf-8"}
        about |= {"Content-Length": str(len(data)), **HEADERS, **(more or {})}
        for name, value in about.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Plain text, also for what is no request at all."""
        status = HTTPStatus(code)
        text = f"{status.value} {status.phrase}{f': {message}' if message else ''}\n"
        more = {"Allow": "GET, HEAD"} if status == HTTPStatus.METHOD_NOT_ALLOWED else None
        self._send(status, "txt", text.encode(errors="replace"), more)

    def log_message(self, format: str, *args: Any) -> None:
        """Addresses have the secret: nothing is printed."""
