"""A door before an S3 server that lets in what a policy allows, as Amazon's S3 reads policies."""

import fnmatch
import http.client
import json
import threading
import urllib.parse
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

POLICIES = Path(__file__).resolve().parents[2] / "docs" / "s3-policies"
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}
_ARN = "arn:aws:s3:::"


@dataclass(frozen=True)
class Need:
    """A right that a request takes: Amazon's name of it, and what it is of."""

    action: str
    resource: str


@dataclass
class Policy:
    """A policy of docs/s3-policies for a bucket and a prefix, and what of it was made use of."""

    rights: frozenset[Need]
    used: set[Need] = field(default_factory=set)
    refused: set[Need] = field(default_factory=set)

    def allows(self, need: Need) -> bool:
        fitting = {
            right
            for right in self.rights
            if right.action == need.action and fnmatch.fnmatchcase(need.resource, right.resource)
        }
        self.used |= fitting
        if not fitting:
            self.refused.add(need)
        return bool(fitting)


def read_policy(name: str, bucket: str, prefix: str) -> Policy:
    text = (POLICIES / f"{name}.json").read_text().replace("BUCKET", bucket).replace("PREFIX", prefix)
    statements: list[dict[str, Any]] = json.loads(text)["Statement"]
    assert {statement["Effect"] for statement in statements} == {"Allow"}
    assert not any(statement.keys() - {"Sid", "Effect", "Action", "Resource"} for statement in statements)
    return Policy(
        frozenset(
            Need(action, resource)
            for statement in statements
            for action in statement["Action"]
            for resource in statement["Resource"]
        )
    )


def needs_of(method: str, address: str, body: bytes = b"") -> list[Need]:
    """What Amazon's table of actions asks for a request; AssertionError for one that is not in here."""
    parts = urllib.parse.urlsplit(address)
    query = urllib.parse.parse_qs(parts.query, keep_blank_values=True)
    bucket, _, key = urllib.parse.unquote(parts.path).lstrip("/").partition("/")
    if not key:
        match method:
            case "GET" if "list-type" in query:
                return [Need("s3:ListBucket", _ARN + bucket)]
            case "GET" if "uploads" in query:
                return [Need("s3:ListBucketMultipartUploads", _ARN + bucket)]
            case "POST" if "delete" in query:
                keys = [each.text for each in ET.fromstring(body).iter() if each.tag.endswith("}Key")]  # noqa: S314 ours
                return [Need("s3:DeleteObject", f"{_ARN}{bucket}/{each}") for each in keys]
    else:
        match method:
            case "GET" | "HEAD" if not query.keys() - {"x-id", "partNumber"}:
                return [Need("s3:GetObject", f"{_ARN}{bucket}/{key}")]
            case "PUT" if not query.keys() - {"x-id", "partNumber", "uploadId"}:
                return [Need("s3:PutObject", f"{_ARN}{bucket}/{key}")]
            case "POST" if query.keys() & {"uploads", "uploadId"}:
                return [Need("s3:PutObject", f"{_ARN}{bucket}/{key}")]
            case "DELETE":
                action = "s3:AbortMultipartUpload" if "uploadId" in query else "s3:DeleteObject"
                return [Need(action, f"{_ARN}{bucket}/{key}")]
    raise AssertionError(f"nobody has said what {method} {address} needs")


class Gate:
    """The door, open on a port of this machine; `policy` may be replaced at any time.

    fails: a part of an address; a request with it that stores something is answered with an error of the server's.
    """

    def __init__(self, server: str) -> None:
        self.server = urllib.parse.urlsplit(server)
        self.policy = Policy(frozenset())
        self.fails = "\0"
        self.unknown: list[str] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"gate": self}))
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, method: str, address: str, body: bytes) -> tuple[int, str] | None:
        """What is said in the server's place; None where the request goes through."""
        try:
            needs = needs_of(method, address, body)
        except AssertionError as error:
            self.unknown.append(str(error))
            return 403, "AccessDenied"
        if not all([self.policy.allows(need) for need in needs]):  # noqa: C419 each is to be noted
            return 403, "AccessDenied"
        return (400, "InvalidRequest") if method == "PUT" and self.fails in address else None

    def missing(self, address: str) -> int:
        """Of what is not there S3 says so only to who may list the bucket."""
        bucket = urllib.parse.urlsplit(address).path.lstrip("/").partition("/")[0]
        return 404 if self.policy.allows(Need("s3:ListBucket", _ARN + bucket)) else 403


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    gate: Gate

    def _serve(self) -> None:
        body = self._body()
        if told := self.gate.answer(self.command, self.path, body):
            self._say(*told)
            return
        upstream = http.client.HTTPConnection(str(self.gate.server.hostname), int(self.gate.server.port or 80))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        upstream.request(self.command, self.path, body=body, headers=headers)  # the Host is signed: it stays
        answer = upstream.getresponse()
        content = answer.read()
        if answer.status == 404 and self.gate.missing(self.path) == 403:
            self._say(403, "AccessDenied")
        else:
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {*_HOP_BY_HOP, "content-length"}:
                    self.send_header(name, value)
            size = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", size or str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        upstream.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _body(self) -> bytes:
        if self.headers.get("Expect"):
            self.send_response_only(100)
            self.end_headers()
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _say(self, status: int, code: str) -> None:
        text = f"<Error><Code>{code}</Code><Message>of the gate</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Content-Type", "application/xml")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """What was asked is in the policy's notes."""
