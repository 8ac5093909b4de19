# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How backends are waited for, and what is refused before any is asked."""

from __future__ import annotations

import re
import threading
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.logs import backends
from ansible_collections.custodes.security_dr.plugins.module_utils.logs.backends import Backend
from ansible_collections.custodes.security_dr.plugins.module_utils.logs.errors import LogsError
from unit.vault.fake import Clock

MARKER = "marker-0f6a5dd0c6bb4a5d8a2a07cbe1cf7d4e"
ONE = Backend("one", "loki", "https://loki.example.com:3100")
TWO = Backend("two", "opensearch", "https://search.example.net:9200")


def waited(clock: Clock, longest: float, ask: Callable[..., bool], *given: Backend) -> dict[str, backends.Seen]:
    return backends.wait(given or (ONE,), MARKER, 0.0, longest, ask, clock.sleep, clock.monotonic)


def test_a_line_that_comes_late_is_found_and_timed(clock: Clock) -> None:
    began = clock.monotonic()
    (seen,) = waited(clock, 30, lambda *_asked: clock.monotonic() - began >= 5).values()
    assert seen.found
    assert 5 <= seen.seconds < 6


def test_waiting_ends_and_tells_the_last_problem(clock: Clock) -> None:
    problems = iter(["refused"] * 3 + ["answers 401"] * 1000)

    def ask(*_asked: Any) -> bool:
        raise LogsError(next(problems))

    (seen,) = waited(clock, 30, ask).values()
    assert seen == backends.Seen(False, 30.0, "answers 401")


def test_zero_asks_once(clock: Clock) -> None:
    asked: list[float] = []

    def ask(backend: Backend, *_rest: Any) -> bool:
        asked.append(backend.timeout)
        return False

    (seen,) = waited(clock, 0, ask).values()
    assert (seen, asked) == (backends.Seen(False, 0.0, ""), [10.0])


def test_a_backend_is_not_flooded(clock: Clock) -> None:
    times: list[float] = []

    def ask(*_asked: Any) -> bool:
        times.append(clock.monotonic())
        return False

    waited(clock, 60, ask)
    pauses = [later - earlier for earlier, later in zip(times, times[1:])]
    assert max(pauses) <= 2
    assert min(pauses[:-1]) >= 0.24
    assert len(times) < 70


def test_a_question_takes_no_longer_than_what_is_left(clock: Clock) -> None:
    patience: list[float] = []

    def ask(backend: Backend, *_rest: Any) -> bool:
        patience.append(backend.timeout)
        clock.sleep(backend.timeout)
        raise LogsError("timed out")

    (seen,) = waited(clock, 12, ask).values()
    assert patience[0] == 10
    assert 1 <= patience[-1] <= 2
    assert seen.seconds <= 13


def test_one_that_hangs_holds_up_no_other() -> None:
    other_asked = threading.Event()

    def ask(backend: Backend, *_rest: Any) -> bool:
        if backend.name == "one":
            return other_asked.wait(30)
        other_asked.set()
        return True

    seen = backends.wait((ONE, TWO), MARKER, 0.0, 30, ask)
    assert seen["one"].found
    assert seen["two"].found


@pytest.mark.parametrize("marker", [MARKER, "drill-1-", "a.b.c.d.", "________"])
def test_a_query_that_is_logged_is_not_the_line(marker: str) -> None:
    pattern = backends.pattern(marker)
    assert re.search(pattern, f"a line with {marker} in it")
    assert not re.search(pattern, f"query={pattern}")
    assert marker not in pattern


def test_what_loki_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(_backend: Backend, address: str, _body: Any = None) -> bytes:
        asked.append(urllib.parse.unquote_plus(address))
        return b'{"data": {"result": []}}'

    monkeypatch.setattr(backends, "_answer", answer)
    # The clock of a host that is ahead.
    ahead = time.time() + 300
    assert not backends.holds(ONE, MARKER, ahead)
    assert asked[0].startswith('https://loki.example.com:3100/loki/api/v1/query_range?query={job="fluent-bit"} |~ `')
    # Loki logs the query, and its log is shipped to it.
    assert MARKER not in asked[0]
    start, end = (int(number) / 1e9 for number in re.findall(r"(?:start|end)=(\d+)", asked[0]))
    assert start < ahead < end


def refused(*given: Backend, marker: str = MARKER) -> str:
    with pytest.raises(LogsError) as caught:
        backends.check(given, marker)
    return str(caught.value)


def test_what_is_well_is_not_refused(tmp_path: Path) -> None:
    backends.check([ONE, TWO, Backend("own", "http", "https://x/{marker}"), Backend("f", "file", "/x")], MARKER)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"url": "loki.example.com:3100"}, "one: url is not of the form https://HOST:PORT"),
        ({"url": "ftp://loki.example.com"}, "not of the form"),
        ({"url": "https://loki.example.com:x"}, "not of the form"),
        ({"url": "https://user:pass@loki.example.com"}, "not of the form"),
        ({"url": "https://loki example.com"}, "not of the form"),
        ({"url": "https://löki.example.com"}, "not of the form"),
        ({"url": "https://["}, "not of the form"),
        ({"token": "s3cret-value\n"}, "token has a line break"),
        ({"token": "s3cret-välue"}, "token has a line break, or what else"),
        ({"tenant": "a\r\nX-Other: b"}, "tenant has a line break"),
        ({"user": "u", "password": "s3cret-value\n"}, "password has a line break"),
        ({"timeout": 0.0}, "timeout is 0"),
        ({"ca_cert": "/none/ca.pem"}, "cannot use /none/ca.pem as CA certificates: No such file"),
        ({"type": "http"}, r"neither url nor query has {marker} in it"),
        ({"type": "http", "query": '{"q": "{marker}'}, "query is not JSON"),
    ],
)
def test_what_is_refused_at_once(changed: dict[str, Any], message: str) -> None:
    told = refused(ONE._replace(**changed))
    assert message in told
    assert "s3cret" not in told


def test_a_ca_file_without_a_certificate(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing\n")
    assert "ca.pem as CA certificates" in refused(ONE._replace(ca_cert=str(tmp_path / "ca.pem")))


def test_two_of_a_name_no_backend_and_no_marker() -> None:
    assert "Two backends are named one" in refused(ONE, ONE)
    assert "No backend is given" in refused()
    assert "is no marker" in refused(ONE, marker="a` or `b")


def test_a_file_is_read_from_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "LONGEST_ANSWER", 1000)
    file = tmp_path / "all.log"
    given = Backend("file", "file", str(file))
    assert not backends.holds(given, MARKER, 0.0)
    file.write_text("x" * 10_000 + MARKER + "\n")
    assert backends.holds(given, MARKER, 0.0)
    file.write_text(MARKER + "x" * 10_000)
    assert not backends.holds(given, MARKER, 0.0)
    with pytest.raises(LogsError, match="cannot read"):
        backends.holds(given._replace(url=str(tmp_path)), MARKER, 0.0)
