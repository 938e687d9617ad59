"""A door in front of an S3 server that misbehaves on demand.

It passes requests on as they are, streaming, with the Host header that the signature covers. A `Fault` changes that at
run time, in this process or through the control port of the one that `python -m infra.drill.s3_proxy` runs.
"""

import argparse
import hashlib
import http.client
import json
import secrets
import socket
import struct
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, get_args

from models.common.errors import ClusterError, ConfigError

Kind = Literal["pass", "error", "slow", "truncate", "lose", "reset", "hang"]

_CHUNK = 32_768
_SERVER_SECONDS = 600
_CODES = {403: "InvalidAccessKeyId", 500: "InternalError", 503: "SlowDown"}
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "te", "upgrade", "proxy-connection"}


@dataclass(frozen=True)
class Fault:
    """What the door does with the requests that it is for: all, or those of these methods whose address has `key`."""

    kind: Kind = "pass"
    status: int = 503  # of "error"
    bytes_per_second: float = 1e6  # of "slow": of all connections together
    kept: float = 0.5  # of "truncate": the part of a download that arrives
    count: int | None = None  # so many requests, then none; None: until another fault is set
    methods: tuple[str, ...] = ()
    key: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(f"'{self.kind}' is no fault of an S3 server\nfits: {', '.join(get_args(Kind))}")
        object.__setattr__(self, "methods", tuple(self.methods))

    def is_for(self, method: str, address: str) -> bool:
        if self.kind == "lose" and not _stores(method, address):
            return False
        return (not self.methods or method in self.methods) and self.key in urllib.parse.unquote(address)


@dataclass(frozen=True)
class Counts:
    """What the door has seen since it opened."""

    requests: Mapping[str, int]  # by method
    faulted: Mapping[str, int]  # by kind of fault
    bytes_up: int
    bytes_down: int


class S3Proxy:
    """The door: an address that listens, and a server behind it."""

    def __init__(self, listen: tuple[str, int], server: tuple[str, int]) -> None:
        self.server = server
        self._changed = threading.Condition()
        self._fault = Fault()
        self._change = 0
        self._requests: Counter[str] = Counter()
        self._faulted: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._free = 0.0
        self._http = _Server(listen, _Handler)
        self._http.proxy = self
        self.address: tuple[str, int] = (listen[0], self._http.server_port)

    def start(self) -> None:
        threading.Thread(target=self._http.serve_forever, args=(0.1,), daemon=True).start()

    def stop(self) -> None:
        self.set(Fault())
        self._http.shutdown()
        self._http.server_close()

    def set(self, fault: Fault) -> None:
        """From now on this, and nothing of what was before; requests that hang are let go."""
        with self._changed:
            self._fault = fault
            self._change += 1
            self._changed.notify_all()

    def counts(self) -> Counts:
        with self._changed:
            up, down = self._bytes["up"], self._bytes["down"]
            return Counts(dict(self._requests), dict(self._faulted), up, down)

    def meet(self, method: str, address: str) -> Fault:
        """What happens to this request, which is counted."""
        with self._changed:
            self._requests[method] += 1
            fault = self._fault
            if fault.kind == "pass" or fault.count == 0 or not fault.is_for(method, address):
                return Fault()
            if fault.count is not None:
                self._fault = replace(fault, count=fault.count - 1)
            self._faulted[fault.kind] += 1
            return fault

    def hang(self) -> None:
        """Returns when another fault is set."""
        with self._changed:
            now = self._change
            self._changed.wait_for(lambda: self._change != now)

    def carried(self, way: str, size: int, fault: Fault) -> None:
        """These bytes went by; on a slow line it returns when they have."""
        with self._changed:
            self._bytes[way] += size
            if fault.kind != "slow" or self._fault.kind != "slow":
                return
            self._free = max(self._free, time.monotonic()) + size / self._fault.bytes_per_second
            now = self._change
            self._changed.wait_for(lambda: self._change != now, self._free - time.monotonic())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    proxy: S3Proxy

    def shutdown_request(self, request: Any) -> None:
        if request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == _AT_ONCE:
            request.close()  # with no word before it, so that the other side gets a reset
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that left
            super().handle_error(request, client_address)


_AT_ONCE = struct.pack("ii", 1, 0)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride] (the one that made it)

    def _serve(self) -> None:
        fault = self.server.proxy.meet(self.command, self.path)
        match fault.kind:
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                self.close_connection = True
            case "hang":
                self.server.proxy.hang()
                self.close_connection = True
            case "error":
                self._drop(fault)
                code = _CODES.get(fault.status, "InternalError")
                self._say(fault.status, f"<Error><Code>{code}</Code><Message>from the drill</Message></Error>")
            case "lose":
                self._pretend(self._drop(fault))
            case _:
                self._forward(fault)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _forward(self, fault: Fault) -> None:
        upstream = http.client.HTTPConnection(*self.server.proxy.server, timeout=_SERVER_SECONDS)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    upstream.putheader(name, value)
            if self._chunked():
                upstream.putheader("Transfer-Encoding", "chunked")
            upstream.endheaders()
            for chunk in self._body(fault):
                upstream.send(b"%x\r\n%s\r\n" % (len(chunk), chunk) if self._chunked() else chunk)
            if self._chunked():
                upstream.send(b"0\r\n\r\n")
            self._answer(upstream.getresponse(), fault)
        except (OSError, http.client.HTTPException):
            self.close_connection = True  # the server is gone, or the client: as without a door
        finally:
            upstream.close()

    def _answer(self, answer: http.client.HTTPResponse, fault: Fault) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        size, has_body = answer.length, self.command != "HEAD" and answer.status not in {204, 304}
        if size is None and has_body:
            self.send_header("Connection", "close")  # the end of the body is the end of the connection
            self.close_connection = True
        self.end_headers()
        left = size if size is not None else sys.maxsize
        if fault.kind == "truncate" and self.command == "GET":
            left, self.close_connection = int((size or 0) * fault.kept), True
        while has_body and left > 0 and (chunk := answer.read(min(_CHUNK, left))):
            self.wfile.write(chunk)
            left -= len(chunk)
            self.server.proxy.carried("down", len(chunk), fault)

    def _drop(self, fault: Fault) -> str:
        """Reads the request's body to its end, for nothing; its MD5, which S3 calls its tag."""
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in self._body(fault):
            digest.update(chunk)
        return digest.hexdigest()

    def _pretend(self, tag: str) -> None:
        """What a server says that has stored the object."""
        if self.command == "PUT":
            self._say(200, "", {"ETag": f'"{tag}"'})
        else:
            bucket, _, key = urllib.parse.urlsplit(self.path).path.lstrip("/").partition("/")
            named = f"<Bucket>{bucket}</Bucket><Key>{key}</Key><ETag>&quot;{tag}-1&quot;</ETag>"
            self._say(200, f"<CompleteMultipartUploadResult>{named}</CompleteMultipartUploadResult>")

    def _say(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        body = text.encode()
        self.send_response_only(status)
        for name, value in {
            "Content-Type": "application/xml",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self, fault: Fault) -> Iterator[bytes]:
        for chunk in self._chunks() if self._chunked() else self._bytes():
            self.server.proxy.carried("up", len(chunk), fault)
            yield chunk

    def _chunked(self) -> bool:
        return self.headers.get("Transfer-Encoding", "").lower() == "chunked"

    def _bytes(self, left: int | None = None) -> Iterator[bytes]:
        left = int(self.headers.get("Content-Length") or 0) if left is None else left
        while left > 0:
            chunk = self.rfile.read1(min(_CHUNK, left))  # pyright: ignore[reportAttributeAccessIssue] (it is buffered)
            if not chunk:
                raise ConnectionResetError("the client left in the middle of a body")
            left -= len(chunk)
            yield chunk

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield from self._bytes(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are counted, not written down."""


class ProxyControl:
    """The door of another process, as `S3Proxy` is that of this one."""

    def __init__(self, address: str, secret: str) -> None:
        self._address, self._secret = address, secret

    def set(self, fault: Fault) -> None:
        self._ask(json.dumps(asdict(fault)).encode())

    def counts(self) -> Counts:
        return Counts(**self._ask(None))

    def _ask(self, body: bytes | None) -> Any:
        request = urllib.request.Request(self._address, body, {"Authorization": f"Bearer {self._secret}"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except (urllib.error.URLError, OSError) as error:
            raise ClusterError(f"the S3 proxy cannot be told anything at {self._address}\n{error}") from None


class _Control(BaseHTTPRequestHandler):
    proxy: S3Proxy
    secret: str

    def _serve(self) -> None:
        if not secrets.compare_digest(self.headers.get("Authorization", ""), f"Bearer {self.secret}"):
            self.send_error(401)
            return
        if self.command == "POST":
            self.proxy.set(Fault(**json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(asdict(self.proxy.counts())).encode())

    do_GET = do_POST = _serve

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing of it is of interest."""


def _stores(method: str, address: str) -> bool:
    """Whether the request makes an object: a part of one that is uploaded in parts does not."""
    in_parts = "uploadId" in urllib.parse.parse_qs(urllib.parse.urlsplit(address).query)
    return (method == "PUT" and not in_parts) or (method == "POST" and in_parts)


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    """Runs a door until it is killed; the secret of its control port is the first line of what it reads."""
    options = argparse.ArgumentParser()
    for name in ("--listen", "--server", "--control"):
        options.add_argument(name, type=_place, required=True, metavar="ADDRESS:PORT")
    asked = options.parse_args()
    proxy = S3Proxy(asked.listen, asked.server)
    proxy.start()
    told = {"proxy": proxy, "secret": sys.stdin.readline().strip()}
    with suppress(KeyboardInterrupt):
        ThreadingHTTPServer(asked.control, type("Control", (_Control,), told)).serve_forever()


if __name__ == "__main__":
    main()
