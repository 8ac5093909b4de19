# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where log lines end up, asked for one that is known: Loki, Elasticsearch or OpenSearch, a file, any HTTP query.

A line counts as delivered when the backend returns it, not when it was sent. What is asked must not count as found:
many backends log their queries, and those logs are shipped too.
Sources: Loki's and Elasticsearch's HTTP API documentation.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import secrets
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple, Optional

from .errors import LogsError

MARKER = re.compile(r"[A-Za-z0-9_.-]{8,128}")
"""What may be searched for: nothing in it means something to a query language."""
LONGEST_ANSWER = 16 * 1024 * 1024
"""Bytes of an answer, and of the end of a file, that are looked through."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.25, 2.0
"""Seconds between two questions to one backend. They grow with the time waited, so that a fleet does not flood it."""
SKEW = 60.0
"""Seconds by which the clocks of a host and of this machine may differ."""

_HEADER = re.compile(r"[!-~]+(?: [!-~]+)*")
_LINE = re.compile(r"[^\r\n]+")


class Backend(NamedTuple):
    """Attributes: type, a key of TYPES, which tells what url and query are; how to log in; timeout, in seconds."""

    name: str
    type: str
    url: str
    query: str = ""
    user: Optional[str] = None
    password: Optional[str] = None
    token: Optional[str] = None
    tenant: Optional[str] = None
    ca_cert: Optional[str] = None
    timeout: float = 10.0

    def __repr__(self) -> str:
        return f"<Backend {self.name}>"


class Seen(NamedTuple):
    """Attributes: found; seconds until it was, or that were waited; problem, what the last question came to, or ""."""

    found: bool
    seconds: float
    problem: str


Ask = Callable[[Backend, str, float], bool]


def check(backends: Sequence[Backend], marker: str) -> None:
    """Refuses what no waiting would mend. Raises LogsError."""
    if not MARKER.fullmatch(marker):
        raise LogsError(f"{marker!r:.60} is no marker: it takes 8 to 128 letters, digits, '_', '.' and '-'.")
    if not backends:
        raise LogsError("No backend is given. Name those that have to have the line.")
    names = [backend.name for backend in backends]
    for name in names:
        if names.count(name) > 1:
            raise LogsError(f"Two backends are named {name}. Give each a name of its own.")
    for backend in backends:
        _check(backend)


def _check(backend: Backend) -> None:
    name = backend.name
    if backend.timeout <= 0:
        raise LogsError(f"{name}: timeout is {backend.timeout:g}. Give seconds above 0.")
    if backend.type == "file":
        return
    _host(backend)
    for option, legal in (("token", _HEADER), ("tenant", _HEADER), ("password", _LINE)):
        if not legal.fullmatch(getattr(backend, option) or "x"):
            raise LogsError(
                f"{name}: {option} has a line break, or what else no HTTP header takes. Was it read from a file? Then "
                "take the end of its line off."
            )
    if backend.type == "http" and backend.query:
        _body(backend, "marker", 0)
    if backend.type == "http" and not re.search(r"\{(marker|pattern)\}", backend.url + backend.query):
        raise LogsError(f"{name}: neither url nor query has {{marker}} in it, so it would ask for no line at all.")
    _context(backend)


def _host(backend: Backend) -> None:
    with suppress(ValueError):
        parts = urllib.parse.urlsplit(backend.url)
        # A port of letters is a ValueError, raised where it is read.
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in parts.netloc
        if whole and _HEADER.fullmatch(backend.url) and " " not in backend.url:
            return
    raise LogsError(
        f"{backend.name}: url is not of the form https://HOST:PORT, with http:// or https:// and without a login in it."
    )


def _where(backend: Backend) -> str:
    # Without the path and what follows: there may be a key in it.
    parts = urllib.parse.urlsplit(backend.url)
    return f"{backend.name} ({parts.scheme}://{parts.netloc})"


def _context(backend: Backend) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=backend.ca_cert)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LogsError(f"{backend.name}: cannot use {backend.ca_cert} as CA certificates: {reason}.") from error


def holds(backend: Backend, marker: str, since: float) -> bool:
    """Whether the backend returns a line that has the marker in it.

    Args:
        marker: MARKER matches it.
        since: seconds since 1970; older lines need not be looked at.

    Raises LogsError.
    """
    return TYPES[backend.type](backend, marker, since)


def wait(
    backends: Sequence[Backend],
    marker: str,
    since: float,
    longest: float,
    ask: Ask = holds,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> dict[str, Seen]:
    """Asks all at once until each has it, `longest` seconds at most; what cannot be reached is asked again. By name.

    One that hangs holds up no other, and is asked for no longer than what is left. 0 asks once.
    """
    began = monotonic()

    def until_found(backend: Backend) -> Seen:
        while True:
            waited = monotonic() - began
            patience = min(backend.timeout, max(longest - waited, 1.0)) if longest > 0 else backend.timeout
            try:
                found, problem = ask(backend._replace(timeout=patience), marker, since), ""
            except LogsError as error:
                found, problem = False, str(error)
            waited = monotonic() - began
            if found or waited >= longest:
                return Seen(found, round(waited, 3), problem)
            sleep(min(longest - waited, max(SHORTEST_PAUSE, min(LONGEST_PAUSE, waited / 10))))

    with ThreadPoolExecutor(max_workers=max(1, len(backends))) as pool:
        return dict(zip((backend.name for backend in backends), pool.map(until_found, backends)))


def pattern(marker: str) -> str:
    """A regular expression that matches the marker and not its own text: a logged query is not the line it asks for."""
    return f"{marker[:-1]}[{marker[-1]}]"


def _loki(backend: Backend, marker: str, since: float) -> bool:
    selector = backend.query or '{job="fluent-bit"}'
    parameters = {
        "query": f"{selector} |~ `{pattern(marker)}`",
        "start": str(int((since - SKEW) * 1e9)),
        "end": str(int((max(time.time(), since) + SKEW) * 1e9)),
        "limit": "1",
    }
    answer = _json(backend, f"{backend.url.rstrip('/')}/loki/api/v1/query_range?{urllib.parse.urlencode(parameters)}")
    with suppress(KeyError, TypeError):
        return bool(answer["data"]["result"])
    raise LogsError(f"{_where(backend)} gives no answer of Loki. Is this its address?")


def _search(backend: Backend, marker: str, _since: float) -> bool:
    index = backend.query or "_all"
    body = {"size": 0, "terminate_after": 1, "query": {"query_string": {"query": f'"{marker}"'}}}
    answer = _json(backend, f"{backend.url.rstrip('/')}/{urllib.parse.quote(index, safe='*,-_')}/_search", body)
    with suppress(KeyError, TypeError, ValueError):
        total = answer["hits"]["total"]
        return int(total["value"] if isinstance(total, dict) else total) > 0
    raise LogsError(f"{_where(backend)} gives no answer of Elasticsearch or OpenSearch. Is this its address?")


def _http(backend: Backend, marker: str, since: float) -> bool:
    if not _repeats(backend, marker, since):
        return False
    if _repeats(backend, secrets.token_hex(len(marker) // 2 + 1), since):
        raise LogsError(
            f"{backend.name} repeats in its answer what it is asked, so the answer proves no line. Ask by a regular "
            "expression with {pattern} instead of {marker}, or for a form of the answer that leaves the query out."
        )
    return True


def _repeats(backend: Backend, marker: str, since: float) -> bool:
    body = _body(backend, marker, since) if backend.query else None
    address = _filled(backend.url, {**_placeholders(marker, since), "pattern": urllib.parse.quote(pattern(marker))})
    return marker.encode() in _answer(backend, address, body)


def _placeholders(marker: str, since: float) -> dict[str, str]:
    return {"marker": marker, "pattern": pattern(marker), "since": str(int(since))}


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _body(backend: Backend, marker: str, since: float) -> Any:
    try:
        return json.loads(_filled(backend.query, _placeholders(marker, since)))
    except ValueError as error:
        raise LogsError(f"{backend.name}: query is not JSON: {error}.") from error


def _file(backend: Backend, marker: str, _since: float) -> bool:
    path = backend.url
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LONGEST_ANSWER))
            return marker.encode() in file.read(LONGEST_ANSWER)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise LogsError(f"{backend.name}: cannot read {path}: {error.strerror}.") from error


TYPES: Mapping[str, Callable[[Backend, str, float], bool]] = {
    "loki": _loki,
    "elasticsearch": _search,
    "opensearch": _search,
    "http": _http,
    "file": _file,
}
"""By type: url and query are a base and a stream selector; a base and an index; a URL and a JSON body, with {marker} or
{pattern}, and {since}, in them, whose answer repeats the line; a path."""


def _json(backend: Backend, address: str, body: Any = None) -> Any:
    try:
        return json.loads(_answer(backend, address, body))
    except ValueError as error:
        raise LogsError(f"{_where(backend)} answers what is no JSON. Is this its address?") from error


def _answer(backend: Backend, address: str, body: Any = None) -> bytes:
    headers = {"Accept": "application/json"}
    if backend.token:
        headers["Authorization"] = f"Bearer {backend.token}"
    elif backend.user:
        pair = base64.b64encode(f"{backend.user}:{backend.password or ''}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
    if backend.tenant:
        headers["X-Scope-OrgID"] = backend.tenant
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(address, data, headers)  # noqa: S310 - its scheme was checked
    opener = urllib.request.build_opener(_Stay, urllib.request.HTTPSHandler(context=_context(backend)))
    try:
        with opener.open(request, timeout=backend.timeout) as answer:
            told: bytes = answer.read(LONGEST_ANSWER)
            return told
    except urllib.error.HTTPError as error:
        hint = "Check its credentials." if error.code in (401, 403) else "Is this its address?"
        if error.code == 429 or error.code >= 500:
            hint = "It is there and cannot answer now."
        raise LogsError(f"{_where(backend)} answers {error.code}. {hint}") from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        reason = getattr(error, "reason", None) or str(error) or error.__class__.__name__
        raise LogsError(f"{_where(backend)} does not answer: {reason}.") from error


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would be given the token."""

    def redirect_request(self, *_arguments: Any) -> None:
        return None
