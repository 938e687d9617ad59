"""The site's server: pages for this machine's browser, and nothing that could be changed through it."""

import hashlib
import http
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from infra.report_site.library import Library
from infra.report_site.pages import (
    comparison_page,
    index_page,
    lineage_page,
    problem_page,
    report_page,
)
from models.common.errors import ClusterError, RegistryError

_LOOPBACK = ("127.0.0.1", "localhost")
_VERSION = re.compile(r"/([^/]+)/(v[^/]+)(/?)")
_IDLE_SECONDS = 20
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class ReportServer(ThreadingHTTPServer):
    """Bound to its port; `serve_forever` answers until `shutdown`."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, host: str, port: int) -> None:
        self.library = Library()
        super().__init__((host, port), _Handler)

    @property
    def address(self) -> str:
        return f"http://{self.server_address[0]}:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error; any other is told with its traceback."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def serve(host: str = "127.0.0.1", port: int = 0) -> ReportServer:
    """The server of the site, not answering yet; port 0 takes a free one. Raises ClusterError where it cannot listen.

    Reports are for whoever can open a connection: it listens on this machine only.
    """
    if host not in _LOOPBACK:
        raise ClusterError(f"reports are served to this machine only, not on {host}\nfits: 127.0.0.1, localhost")
    try:
        return ReportServer("127.0.0.1", port)
    except OSError as error:
        raise ClusterError(
            f"cannot serve reports on port {port}: {error.strerror}\nfits: a free port\n"
            "stop the process that has it, or name another port"
        ) from None


class _Handler(BaseHTTPRequestHandler):
    server_version = "Orchard"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS

    def do_GET(self) -> None:
        if not self._is_ours():
            self._answer(421, problem_page("Not this address", "This server answers to 127.0.0.1 and localhost only."))
            return
        try:
            asked = urlsplit(self.path)
            path, query = unquote(asked.path), dict(parse_qsl(asked.query, max_num_fields=20))
        except ValueError:
            self._answer(400, problem_page("No address", "This is no address of a page."))
            return
        library = self._site.library
        try:
            if path == "/":
                self._answer(200, index_page(library, query))
            elif path == "/compare":
                self._answer(200, comparison_page(library, query))
            elif path == "/lineage":
                self._answer(200, lineage_page(library, query))
            elif matched := _VERSION.fullmatch(path):
                self._answer_version(*matched.groups())
            else:
                self._answer(404, problem_page("No such page", f"There is no page {path}."))
        except RegistryError as error:
            self._answer(404, problem_page("Not found", str(error)))

    do_HEAD = do_GET

    @property
    def _site(self) -> ReportServer:
        assert isinstance(self.server, ReportServer)
        return self.server

    def _answer_version(self, name: str, number: str, slash: str) -> None:
        version = self._site.library.find(f"{name}@{number}")
        if not slash:
            self._redirect(f"/{version.name}/{version.version}/")
            return
        try:
            self._answer(200, report_page(self._site.library, version))
        except RegistryError as error:
            self._answer(502, problem_page(f"{name}@{number} cannot be shown", str(error), version))

    def _is_ours(self) -> bool:
        """Whether the browser asked for this machine: a page elsewhere can give its own name this address."""
        host, _, port = self.headers.get("Host", "").rpartition(":")
        return host in _LOOPBACK and port == str(self._site.server_port)

    def _redirect(self, address: str) -> None:
        self.send_response(http.HTTPStatus.PERMANENT_REDIRECT)
        self.send_header("Location", address)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, status: int, page: bytes) -> None:
        mark = f'"{hashlib.sha256(page).hexdigest()[:32]}"'
        known = status == http.HTTPStatus.OK and self.headers.get("If-None-Match") == mark
        self.send_response(http.HTTPStatus.NOT_MODIFIED if known else status)
        for name, value in {**_HEADERS, "Content-Security-Policy": _POLICY, "ETag": mark}.items():
            self.send_header(name, value)
        if not known:
            self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if not known and self.command != "HEAD":
            self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what was looked at is nobody's business, and errors rise."""
