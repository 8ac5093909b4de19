# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vault nodes by script, in the place of a requests session, and a clock that only moves when somebody sleeps."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Union
from urllib.parse import urlsplit

import requests
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import Connection, VaultClient
from urllib3 import HTTPResponse
from urllib3.exceptions import MaxRetryError, NewConnectionError, ReadTimeoutError

URL = "https://vault-1:8200"
OTHER = "https://vault-2:8200"
THIRD = "https://vault-3:8200"


@dataclass
class Seen:
    """One request, as the transport sent it."""

    method: str
    url: str
    headers: dict[str, str]
    json: Any = None
    body: bytes | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def node(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def path(self) -> str:
        return urlsplit(self.url).path.removeprefix("/v1/")

    @property
    def token(self) -> str | None:
        return self.headers.get("X-Vault-Token")


@dataclass
class Answer:
    """What a node says: a status with JSON or bytes, or an exception in its stead."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    raises: BaseException | None = None


Script = Union[Answer, Callable[[Seen], Answer]]


class Stream(io.RawIOBase):
    """A body that arrives in pieces; an exception among them is raised when its turn comes."""

    def __init__(self, pieces: Iterable[bytes | BaseException]) -> None:
        self._pieces = list(pieces)

    def readable(self) -> bool:
        return True

    def read(self, _size: int = -1) -> bytes:
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if isinstance(piece, bytes):
            return piece
        raise piece


class FakeVault:
    """The servers. `on` adds answers, the last of a kind is given again and again; `seen` are the requests."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.sessions: list[FakeSession] = []
        self._answers: dict[tuple[str, str, str | None], list[Script]] = {}
        # What a standby without a leader answers to a request that it may not forward.
        self.on("GET", "sys/internal/ui/mounts", errors("local node not active but active cluster node not found"), 500)

    def on(
        self,
        method: str,
        path: str,
        body: Any = None,
        status: int = 200,
        *,
        at: str | None = None,
        headers: dict[str, str] | None = None,
        raises: BaseException | None = None,
        call: Callable[[Seen], Answer] | None = None,
    ) -> FakeVault:
        """Answers `method` on `path` (below /v1/), at every node or at one."""
        answer: Script = call or Answer(status, body, headers or {}, raises)
        self._answers.setdefault((method, path, at), []).append(answer)
        return self

    def clear(self, method: str, path: str, at: str | None = None) -> FakeVault:
        """Forgets what a path would answer."""
        self._answers.pop((method, path, at), None)
        return self

    def session(self) -> FakeSession:
        """What `requests.Session()` gives."""
        session = FakeSession(self)
        self.sessions.append(session)
        return session

    def client(self, url: str = URL, token: str | None = None, **options: Any) -> VaultClient:
        """A client of one node; it does not sleep, and does not retry unless told to."""
        connection = Connection(url, **{"retries": 0, **options})
        return VaultClient(connection, token, sleep=lambda _seconds: None, session=self.session())

    def sent(self, method: str, path: str) -> list[Seen]:
        """The requests of one kind."""
        return [seen for seen in self.seen if (seen.method, seen.path) == (method, path)]

    def tokens_at(self, node: str) -> set[str]:
        """The tokens that a node has seen."""
        return {seen.token for seen in self.seen if seen.node == node and seen.token}

    def answer(self, seen: Seen) -> Answer:
        self.seen.append(seen)
        for key in ((seen.method, seen.path, seen.node), (seen.method, seen.path, None)):
            queue = self._answers.get(key)
            if queue:
                script = queue.pop(0) if len(queue) > 1 else queue[0]
                return script if isinstance(script, Answer) else script(seen)
        raise AssertionError(f"unexpected request: {seen.method} {seen.url}")


class FakeSession:
    """As much of requests.Session as hvac's adapter uses. Follows redirects when it is allowed to, token and all."""

    def __init__(self, vault: FakeVault) -> None:
        self.trust_env = True
        self.verify: Any = True
        self.cert: Any = None
        self.proxies: dict[str, str] = {}
        self._vault = vault

    def request(
        self, method: str, url: str, headers: dict[str, str], allow_redirects: bool, **options: Any
    ) -> requests.Response:
        data = options.pop("data", None)
        body = data.read() if hasattr(data, "read") else data
        seen = Seen(method.upper(), url, dict(headers), options.pop("json", None), body, options)
        answer = self._vault.answer(seen)
        if answer.raises is not None:
            raise answer.raises
        if allow_redirects and "Location" in answer.headers:
            return self.request(method, answer.headers["Location"], headers, allow_redirects, **options)
        made = response(answer)
        if not options.get("stream"):
            _unused = made.content
        return made

    def close(self) -> None:
        """Nothing to close."""


def response(answer: Answer) -> requests.Response:
    """The answer as `requests` would give it, its body not read yet."""
    made = requests.Response()
    made.status_code = answer.status
    made.headers.update(answer.headers)
    if isinstance(answer.body, Stream):
        body: Any = answer.body
    else:
        content = answer.body if isinstance(answer.body, bytes) else b""
        body = io.BytesIO(json.dumps(answer.body).encode() if isinstance(answer.body, (dict, list)) else content)
    made.raw = HTTPResponse(body=body, status=answer.status, headers=dict(answer.headers), preload_content=False)
    return made


class Clock:
    """Seconds that pass by sleeping alone."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def chained(outer: BaseException, *causes: BaseException) -> BaseException:
    """The exceptions as `raise … from …` nests them, outermost first."""
    for upper, lower in zip([outer, *causes], causes):
        upper.__cause__ = lower
    return outer


def refused() -> BaseException:
    """What requests raises when nobody listens (seen with requests 2.34 and urllib3 2.8)."""
    system = ConnectionRefusedError(111, "Connection refused")
    new = NewConnectionError(None, f"Failed to establish a new connection: {system}")  # type: ignore[arg-type]
    most = MaxRetryError(None, "/v1/x", new)  # type: ignore[arg-type]
    return chained(requests.ConnectionError(most), most, new, system)


def silent() -> BaseException:
    """What requests raises when a server that took the request does not answer in time."""
    read = ReadTimeoutError(None, None, "Read timed out. (read timeout=30)")  # type: ignore[arg-type]
    return chained(requests.ReadTimeout(read), read, TimeoutError("timed out"))


def reset() -> BaseException:
    """What requests raises when the connection is reset."""
    from urllib3.exceptions import ProtocolError

    system = ConnectionResetError(104, "Connection reset by peer")
    protocol = ProtocolError("Connection aborted.", system)
    return chained(requests.ConnectionError(protocol), protocol, system)


def errors(*said: str) -> dict[str, Any]:
    """Vault's error body."""
    return {"errors": list(said)}


HEALTH: dict[str, Any] = {
    "initialized": True,
    "sealed": False,
    "standby": False,
    "version": "1.21.0",
    "cluster_name": "prod",
    "cluster_id": "45c5a04b-1d4e-4bd6-a2f8-d9d0a1c1ddbc",
}
SEAL = {
    "type": "shamir",
    "initialized": True,
    "sealed": False,
    "t": 3,
    "n": 5,
    "progress": 0,
    "nonce": "",
    "version": "1.21.0",
    "migration": False,
    "cluster_name": "prod",
    "cluster_id": "45c5a04b-1d4e-4bd6-a2f8-d9d0a1c1ddbc",
    "recovery_seal": False,
    "removed_from_cluster": False,
    "storage_type": "raft",
}


def node(vault: FakeVault, url: str, status: int = 200, leader: str | None = None, **seal: Any) -> None:
    """Lets a node answer as Vault 1.21 on Raft would in the state that a health code stands for."""
    leader = leader or (url if status == 200 else URL)
    state = {"initialized": status != 501, "sealed": status in (501, 503), **seal}
    health = {**HEALTH, **state, "standby": status != 200}
    if status in (501, 503):
        del health["cluster_name"], health["cluster_id"]
    vault.clear("GET", "sys/health", url).on("GET", "sys/health", health, status, at=url)
    vault.clear("GET", "sys/seal-status", url).on("GET", "sys/seal-status", {**SEAL, **state}, at=url)
    vault.clear("GET", "sys/leader", url)
    if status in (501, 503):
        vault.on("GET", "sys/leader", errors("Vault is sealed"), 503, at=url)
    else:
        vault.on(
            "GET",
            "sys/leader",
            {
                "ha_enabled": True,
                "is_self": status == 200,
                "leader_address": leader,
                "raft_committed_index": 50,
                "raft_applied_index": 50,
            },
            at=url,
        )


def redact(vault: FakeVault, url: str, leader: str | None) -> None:
    """Lets a node answer as one of Vault 1.21.0 behind a listener that redacts does, under this leader or none."""
    for path in ("sys/health", "sys/seal-status", "sys/leader"):
        answer = vault.answer(Seen("GET", f"{url}/v1/{path}", {}))
        body = {name: value for name, value in answer.body.items() if name != "cluster_name"}
        body.update({name: "" for name in ("version", "leader_address") if name in body})
        if path == "sys/health":
            body["enterprise"] = False
        vault.clear("GET", path, url).on("GET", path, body, answer.status, at=url)
    vault.clear("GET", "sys/internal/ui/mounts", url)
    if leader is not None:
        where = {"Location": f"{leader}/v1/sys/internal/ui/mounts"}
        vault.on("GET", "sys/internal/ui/mounts", b"", 307, at=url, headers=where)


def down(vault: FakeVault, url: str) -> None:
    """Lets nobody listen at an address."""
    for path in ("sys/health", "sys/seal-status", "sys/leader", "sys/init"):
        vault.clear("GET", path, url).on("GET", path, raises=refused(), at=url)
