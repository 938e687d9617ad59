"""Prefect's REST API, asked as its own client does: login, and a token against forged requests.

A few requests an `orchard up` makes for days; Prefect itself would take 100 MB of this process to ask them.
"""

import base64
import json
import time
import urllib.error
import urllib.request
import uuid
from typing import Any

from models.common.errors import ClusterError

_ANSWER_SECONDS = 15
_BUSY = 503  # the database was locked: Prefect asks to be asked again
_PAUSES = (0.5, 1.0, 2.0, 4.0)


class PrefectApi:
    """The API of a server that runs on this machine."""

    def __init__(self, address: str, auth_string: str) -> None:
        self.address = address
        self.login = f"Basic {base64.b64encode(auth_string.encode()).decode()}"
        self._client = uuid.uuid4().hex
        self._token: str | None = None

    def get(self, path: str) -> Any:
        return self._ask("GET", path, None)

    def post(self, path: str, body: Any) -> Any:
        if self._token is None:
            self._token = self.get(f"/csrf-token?client={self._client}")["token"]
        try:
            return self._ask("POST", path, body)
        except Refused as refused:
            if refused.status != 403:
                raise
        self._token = self.get(f"/csrf-token?client={self._client}")["token"]  # it is good for an hour
        return self._ask("POST", path, body)

    def answers(self) -> bool:
        """Whether the server is up, with its database, and takes our login."""
        try:
            self.get("/ready")
        except (ClusterError, OSError):
            return False
        return self.takes_login()

    def takes_login(self) -> bool:
        try:
            self.get("/admin/version")
        except (ClusterError, OSError):
            return False
        return True

    def _ask(self, method: str, path: str, body: Any) -> Any:
        """The answer; raises Refused for an answer that is an error, OSError where there is none."""
        headers = {"Authorization": self.login, "Content-Type": "application/json"}
        if self._token:
            headers |= {"Prefect-Csrf-Token": self._token, "Prefect-Csrf-Client": self._client}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}{path}", data=data, headers=headers, method=method)
        for pause in _PAUSES:
            try:
                return _answer(request)
            except Refused as refused:
                if refused.status != _BUSY:
                    raise
            time.sleep(pause)
        return _answer(request)


def _answer(request: urllib.request.Request) -> Any:
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        raise Refused(request.full_url, error.code, error.read().decode(errors="replace")) from None
    return json.loads(text) if text else None


class Refused(ClusterError):
    """An answer of the server that is an error."""

    def __init__(self, address: str, status: int, text: str) -> None:
        super().__init__(f"the Prefect server answered {status} at {address}\n{text[:500]}")
        self.status = status
