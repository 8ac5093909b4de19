# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A receiver of webhooks that answers as it is told and remembers what arrived, over HTTP and HTTPS.

Each path but ``/control/…`` is a webhook. From Python there are methods; from elsewhere, over HTTP alone:

    PUT /control/first {"status": 500}        # as Receiver.answer takes it; without a body: 200 again
    GET /control/first                        # {"forgotten": 0, "arrived": [...]}, as Arrival.told
    POST /control/first {"holds": [...], "since": 0, "seconds": 60}    # as Receiver.wait takes it and answers
    DELETE /control/first                     # forget what arrived there
    PUT /control/switch/loki {"state": "up"}  # calls what the lab has put into `switches`, which may take a while
"""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from .processes import LabError

HANG, CLOSE = "hang", "close"
"""Instead of a status. hang: nothing comes back until another answer is set, or `LONGEST_HANG` is over. close: the
request is taken, and the connection ends without an answer."""

LONGEST_HANG = 60.0
"""Seconds."""
LONGEST_BODY = 2**20
"""Bytes; a longer one is answered 413 and not read."""
MOST_ARRIVALS = 2000
"""That are remembered of one path; of more, the first are forgotten, and counted."""

_LONGEST_CONTROL = 300.0
"""Seconds."""

_HIDDEN = ("authorization", "cookie", "token", "secret", "key")

Switch = Callable[[str], None]


@dataclass(frozen=True)
class Answer:
    """How a path answers: a status, HANG or CLOSE; seconds to wait before the client asks again; how many times."""

    status: int | str = 200
    retry_after: float | None = None
    times: int | None = None
    body: Any = None


@dataclass
class Arrival:
    """One request. Its secrets are not in it: of an Authorization there is only the hash.

    Attributes:
        path: without the query.
        body: JSON, or None when it was none.
        time: seconds since 1970.
        status: what was answered; None where nothing was.
    """

    path: str
    method: str
    headers: dict[str, str]
    authorization_sha256: str
    body: Any
    size: int
    time: float
    status: int | None = None

    @property
    def told(self) -> dict[str, Any]:
        """As JSON."""
        return dict(vars(self))


@dataclass
class _Hook:
    answer: Answer = field(default_factory=Answer)
    served: int = 0
    arrived: deque[Arrival] = field(default_factory=lambda: deque(maxlen=MOST_ARRIVALS))
    forgotten: int = 0
    changed: threading.Event = field(default_factory=threading.Event)


class Receiver:
    """Context manager: one set of webhooks, on a port for HTTP and, with a certificate, on another for HTTPS.

    Args:
        address: where it listens.
        certificate: files of the certificate and of its key.
        switches: what ``/control/switch/NAME`` calls with the state it is given; they may raise LabError.
    """

    def __init__(
        self,
        address: str = "127.0.0.1",
        certificate: tuple[Path, Path] | None = None,
        switches: Mapping[str, Switch] | None = None,
    ) -> None:
        self.switches: dict[str, Switch] = dict(switches or {})
        self._hooks: dict[str, _Hook] = {}
        self._guard = threading.Condition()
        """Of `_hooks`; notified of each arrival."""
        self._switching = threading.Lock()
        self._stopped = threading.Event()
        self._servers = [_Server((address, 0), self._handler())]
        self.http = f"http://{address}:{self._servers[0].server_port}"
        self.https = ""
        if certificate:
            secure = _Server((address, 0), self._handler())
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            # The handshake is the handler's thread's: a client that never begins it keeps nobody else out.
            secure.socket = context.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
            self._servers.append(secure)
            self.https = f"https://{address}:{secure.server_port}"

    def __enter__(self) -> Receiver:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, in threads of this process."""
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Close; what hangs ends."""
        self._stopped.set()
        with self._guard:
            self._guard.notify_all()
        for hook in self._hooks.values():
            hook.changed.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def answer(
        self,
        name: str,
        status: int | str = 200,
        *,
        retry_after: float | None = None,
        times: int | None = None,
        body: Any = None,
    ) -> None:
        """From now on, the webhook ``/NAME`` answers so; what hangs there is let go, without an answer.

        Args:
            name: of the webhook.
            status: a status, HANG or CLOSE.
            retry_after: seconds, of the header Retry-After.
            times: so many times, and 200 afterwards.
            body: JSON to answer with.
        """
        if status not in (HANG, CLOSE) and not (isinstance(status, int) and 200 <= status < 600):
            raise ValueError(f"{status!r} is neither a status of 200 to 599 nor {HANG} or {CLOSE}")
        hook = self._hook(name)
        with self._guard:
            hook.answer, hook.served = Answer(status, retry_after, times, body), 0
            hook.changed.set()
            hook.changed = threading.Event()

    def arrived(self, name: str) -> list[Arrival]:
        """What has arrived there, in order."""
        hook = self._hook(name)
        with self._guard:
            return list(hook.arrived)

    def wait(
        self, name: str, holds: Sequence[Any], since: float = 0.0, seconds: float = 60.0
    ) -> tuple[list[Any], float]:
        """Wait until what ``/NAME`` has answered with 2xx holds all of these.

        Args:
            name: of the webhook.
            holds: each a mapping, which some object of a body has to have in it, or a text, which some string of a
                body has to have in it.
            since: seconds since 1970; what arrived before does not count.
            seconds: how long to wait.

        Returns:
            Those that are missing, and when the arrival came that brought the last of the others, or 0.
        """
        deadline = time.monotonic() + seconds
        with self._guard:
            while True:
                hook = self._hooks.setdefault(name, _Hook())
                counted = [one for one in hook.arrived if one.time > since and one.status and 200 <= one.status < 300]
                first = [next((one.time for one in counted if _holds(one.body, wanted)), None) for wanted in holds]
                missing = [wanted for wanted, arrived in zip(holds, first) if arrived is None]
                left = deadline - time.monotonic()
                if not missing or left <= 0 or self._stopped.is_set():
                    return missing, max((arrived for arrived in first if arrived is not None), default=0.0)
                self._guard.wait(left)

    def forget(self, name: str) -> None:
        """Forget what has arrived there."""
        hook = self._hook(name)
        with self._guard:
            hook.arrived.clear()
            hook.forgotten = 0

    def _hook(self, name: str) -> _Hook:
        with self._guard:
            return self._hooks.setdefault(name, _Hook())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            timeout = 30

            def do(self) -> None:
                # A client that gave up is what the tests are after.
                with suppress(OSError):
                    receiver._serve(self)

            do_GET = do_PUT = do_POST = do_DELETE = do  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        name = urlsplit(request.path).path.strip("/")
        length = int(request.headers.get("Content-Length") or 0)
        if not 0 <= length <= LONGEST_BODY:
            request.close_connection = True
            _reply(request, 413)
            return
        content = request.rfile.read(length)
        if name.startswith("control/"):
            self._control(request, name.removeprefix("control/"), content)
        else:
            self._receive(request, name, content)

    def _receive(self, request: BaseHTTPRequestHandler, name: str, content: bytes) -> None:
        hook = self._hook(name)
        arrival = _arrival(request, name, content)
        with self._guard:
            hook.forgotten += len(hook.arrived) == MOST_ARRIVALS
            answer = hook.answer
            if answer.times is not None and hook.served >= answer.times:
                answer = Answer()
            # Noted before the client has it: who waits for the client finds it here.
            if isinstance(answer.status, int):
                arrival.status = answer.status
            hook.arrived.append(arrival)
            self._guard.notify_all()
            hook.served += 1
            changed = hook.changed
        if not isinstance(answer.status, int):
            if answer.status == HANG:
                changed.wait(LONGEST_HANG)
            request.close_connection = True
            return
        wait = {} if answer.retry_after is None else {"Retry-After": f"{answer.retry_after:g}"}
        _reply(request, answer.status, answer.body, wait)

    def _control(self, request: BaseHTTPRequestHandler, name: str, content: bytes) -> None:
        try:
            given = json.loads(content or b"{}")
            if request.command == "PUT" and name.startswith("switch/"):
                with self._switching:
                    self.switches[name.removeprefix("switch/")](str(given["state"]))
            elif request.command == "PUT":
                self.answer(name, **given)
            elif request.command == "POST":
                missing, last = self.wait(name, **given)
                _reply(request, 200, {"missing": missing, "time": last})
                return
            elif request.command == "DELETE":
                self.forget(name)
            elif request.command != "GET":
                _reply(request, 405)
                return
        except (ValueError, TypeError, KeyError) as error:
            _reply(request, 400, {"error": repr(error)})
        except LabError as error:
            _reply(request, 500, {"error": str(error)})
        else:
            told = [arrival.told for arrival in self.arrived(name)]
            _reply(request, 200, {"forgotten": self._hook(name).forgotten, "arrived": told})


def control(base: str, method: str, name: str, body: Any = None) -> Any:
    """Ask the receiver whose ``/control`` is at `base`, and return its answer. Raises LabError when it refuses."""
    address = urlsplit(base)
    content = None if body is None else json.dumps(body)
    with closing(http.client.HTTPConnection(address.netloc, timeout=_LONGEST_CONTROL)) as connection:
        connection.request(method, f"{address.path}/{name}", content)
        answer = connection.getresponse()
        told = json.loads(answer.read() or b"null")
    if answer.status != 200:
        raise LabError(f"{method} {base}/{name} {content or ''} answered {answer.status}: {told}")
    return told


def _holds(body: Any, wanted: Any) -> bool:
    """Whether a mapping is in some object of the body, or a text in some string of it."""
    if isinstance(wanted, str) and isinstance(body, str):
        return wanted in body
    if isinstance(wanted, Mapping) and isinstance(body, Mapping) and _includes(body, wanted):
        return True
    parts = body.values() if isinstance(body, Mapping) else body if isinstance(body, list) else ()
    return any(_holds(part, wanted) for part in parts)


def _includes(whole: Any, part: Any) -> bool:
    if not isinstance(part, Mapping):
        return bool(whole == part)
    return isinstance(whole, Mapping) and all(
        key in whole and _includes(whole[key], value) for key, value in part.items()
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A handshake that fails, or a connection that is cut, is the client's affair."""


def _arrival(request: BaseHTTPRequestHandler, name: str, content: bytes) -> Arrival:
    body = None
    with suppress(ValueError):
        body = json.loads(content)
    secret = request.headers.get("Authorization", "")
    shown = {
        key: value
        for key, value in request.headers.items()
        if key.lower() == "idempotency-key" or not any(hidden in key.lower() for hidden in _HIDDEN)
    }
    digest = hashlib.sha256(secret.encode()).hexdigest() if secret else ""
    return Arrival(f"/{name}", request.command, shown, digest, body, len(content), time.time())


def _reply(
    request: BaseHTTPRequestHandler, status: int, body: Any = None, headers: Mapping[str, str] | None = None
) -> None:
    content = b"" if body is None else json.dumps(body).encode()
    request.send_response(status)
    for key, value in {**(headers or {}), "Content-Type": "application/json"}.items():
        request.send_header(key, value)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)
