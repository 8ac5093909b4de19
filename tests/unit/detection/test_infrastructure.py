# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host sees of Vault, the log store, Prometheus, Alertmanager, certificates: three answers, never mixed up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import infrastructure, transport
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.errors import DetectionError
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.findings import Scan
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.infrastructure import Options
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.transport import Answer, HttpError
from lab.pki import Authority
from unit.detection.webserver import serving

VAULT = {"name": "main", "url": "https://vault:8200"}
STORE = {"url": "https://loki:3100"}
DAY = 86400.0


def options(**config: Any) -> Options:
    return Options.from_config({"timeout": 2, **config})


def scan(
    config: dict[str, Any], *answers: Answer | HttpError | int, peer: Callable[..., bytes] | None = None
) -> tuple[Scan, str, list[str], list[float]]:
    """What is seen when one target is answered so, in order; the URLs that were asked, and the pauses."""
    asked: list[str] = []
    slept: list[float] = []
    left = list(answers)

    def get(url: str, _ca_cert: str | None, _timeout: float) -> Answer:
        asked.append(url)
        answer = left.pop(0)
        if isinstance(answer, HttpError):
            raise answer
        return Answer(answer) if isinstance(answer, int) else answer

    seen, state = infrastructure.scan(options(**config), time.time(), get, peer or (lambda *_: b""), slept.append)
    return seen, state, asked, slept


REFUSED = HttpError("refused", "No connection to vault:8200: Connection refused.")


@pytest.mark.parametrize("status", [200, 429, 472, 473])
def test_vault_is_healthy_with_these_codes(status: int) -> None:
    seen, _state, asked, _slept = scan({"vault": [VAULT]}, status)
    assert seen == Scan([], [])
    assert asked == ["https://vault:8200/v1/sys/health"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (474, "is a standby that has no active node"),
        (501, "is not initialised"),
        (503, "is sealed"),
        (530, "was removed from its cluster"),
        (500, "is not ready"),
        (307, "is not ready"),
        (404, "is not ready"),
        (204, "is not ready"),
    ],
)
def test_vault_is_unhealthy_with_any_other_in_words_of_its_own(status: int, words: str) -> None:
    seen, _state, _asked, _slept = scan({"vault": [VAULT]}, status, status)
    (finding,) = seen.findings
    assert finding.rule == "infrastructure.unhealthy"
    assert finding.summary == f"Vault main {words} (it answers {status})."
    assert finding.evidence == {"address": "vault:8200", "status": status}
    assert finding.key == ("vault", "main")
    assert not seen.blind


@pytest.mark.parametrize(
    ("kind", "path"), [("prometheus", "/-/ready"), ("alertmanager", "/-/ready"), ("vault", "/v1/sys/health")]
)
def test_each_kind_is_asked_at_its_own_path_also_behind_a_prefix(kind: str, path: str) -> None:
    for url in (f"http://m:9090/prefix/{path[1:]}", "http://m:9090/prefix", "http://m:9090/prefix/"):
        assert scan({kind: [{"name": "m", "url": url}]}, 200)[2] == [f"http://m:9090/prefix{path}"]


def test_prometheus_that_is_not_ready_is_unhealthy() -> None:
    seen, _state, _asked, _slept = scan({"prometheus": [{"name": "m", "url": "http://m:9090"}]}, 503, 503)
    assert [finding.summary for finding in seen.findings] == ["Prometheus m is not ready (it answers 503)."]


def test_what_does_not_answer_is_unreachable_and_the_same_finding_whatever_the_error_says() -> None:
    first, *_rest = scan({"vault": [VAULT]}, REFUSED, REFUSED)
    late = HttpError("timeout", "vault:8200 gave no whole answer within 5 seconds.")
    second, *_rest = scan({"vault": [VAULT]}, late, late)
    assert first.findings[0].rule == "infrastructure.unreachable"
    assert first.findings[0].summary == (
        "Vault main cannot be reached: No connection to vault:8200: Connection refused."
    )
    assert first.findings[0].fingerprint == second.findings[0].fingerprint


def test_one_lost_packet_is_no_alert() -> None:
    seen, _state, asked, slept = scan({"vault": [VAULT]}, REFUSED, 200)
    assert (seen, len(asked), slept) == (Scan([], []), 2, [infrastructure.PAUSE])


def test_a_ca_file_that_cannot_be_used_is_a_blind_spot_and_tried_once() -> None:
    broken = HttpError("ca", "Cannot use the CA certificates in /x: No such file or directory.")
    seen, state, asked, _slept = scan({"log_store": STORE}, broken)
    assert seen.findings == []
    assert seen.blind == [
        "The log store could not be looked at: Cannot use the CA certificates in /x: No such file or directory."
    ]
    assert (state, len(asked)) == ("blind", 1)


@pytest.mark.parametrize(
    ("answer", "state", "rules"),
    [
        (200, "ready", []),
        (503, "unready", ["infrastructure.unhealthy"]),
        (204, "unready", ["infrastructure.unhealthy"]),
        (REFUSED, "unreachable", ["infrastructure.unreachable"]),
    ],
)
def test_the_log_store_has_these_states(answer: Any, state: str, rules: list[str]) -> None:
    seen, got, asked, _slept = scan({"log_store": STORE}, answer, answer)
    assert (got, [finding.rule for finding in seen.findings]) == (state, rules)
    assert set(asked) == {"https://loki:3100/ready"}


def test_another_log_store_is_asked_as_it_is_written_and_any_2xx_will_do() -> None:
    _seen, state, asked, _slept = scan({"log_store": {"url": "https://es:9200/_health?x=1", "type": "http"}}, 204)
    assert (state, asked) == ("ready", ["https://es:9200/_health?x=1"])


def test_without_a_log_store_it_is_unconfigured() -> None:
    assert scan({})[:2] == (Scan([], []), "unconfigured")
    assert infrastructure.start(options(), time.time()).finish() == (Scan([], []), "unconfigured")


def test_targets_are_asked_at_once() -> None:
    servers = [{"name": str(number), "url": "http://m"} for number in range(20)]
    all_of_them = threading.Barrier(20)

    def get(*_arguments: object) -> Answer:
        all_of_them.wait(30)
        return Answer(200)

    seen, _state = infrastructure.scan(options(prometheus=servers, timeout=30), time.time(), get)
    assert seen.blind == []
    assert not all_of_them.broken


def test_who_does_not_end_by_the_deadline_is_a_blind_spot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infrastructure, "GRACE", 0.05)
    given = options(timeout=0.05, attempts=1, log_store=STORE)
    never = threading.Event()
    seen, state = infrastructure.scan(given, time.time(), lambda *_: Answer(200 if never.wait(30) else 500))
    never.set()
    assert state == "blind"
    assert seen.blind == ["The log store could not be looked at: no end within 0.1 seconds."]


def test_a_host_without_threads_asks_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_self: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", start)
    seen, _state, asked, _slept = scan({"vault": [VAULT, {"name": "b", "url": "http://b"}]}, 200, 200)
    assert (seen, len(asked)) == (Scan([], []), 2)


def test_a_certificate_file_that_expires_soon_is_found_and_one_that_does_not_is_not(authority: Authority) -> None:
    soon, _key = authority.issue("soon", days=3)
    seen, state, *_rest = scan({"certificates": [{"path": str(soon)}]})
    assert [(finding.rule, finding.severity) for finding in seen.findings] == [("infrastructure.certificate", "high")]
    assert state == "unconfigured"
    assert scan({"certificates": [{"path": str(soon), "days": 2}]})[0] == Scan([], [])
    assert scan({"certificates": [{"path": str(soon)}], "days": 2})[0] == Scan([], [])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


def test_a_certificate_file_that_cannot_be_read_is_a_blind_spot(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    names = [str(tmp_path / name) for name in ("none.pem", "empty.pem", "")]
    seen, *_rest = scan({"certificates": [{"path": name} for name in names]})
    assert seen.findings == []
    assert [text.split(": ", 1)[1] for text in seen.blind] == [
        "No such file or directory.",
        "it holds no certificate.",
        "it is no regular file.",
    ]


def endpoint(authority: Authority, tls: tuple[Path, Path], **more: Any) -> Scan:
    with serving(b"", tls) as server:
        target = {"endpoint": f"127.0.0.1:{server.port}", "ca_cert": str(authority.ca_file), **more}
        return infrastructure.scan(options(certificates=[target], attempts=1), time.time())[0]


def test_an_endpoints_certificate_is_looked_at(authority: Authority) -> None:
    assert endpoint(authority, authority.issue("fresh", days=20)) == Scan([], [])
    (finding,) = endpoint(authority, authority.issue("soon", days=3)).findings
    assert (finding.rule, finding.severity) == ("infrastructure.certificate", "high")
    assert "expires on" in finding.summary


def test_an_endpoint_with_an_expired_certificate_is_told_as_expired_not_as_unreachable(authority: Authority) -> None:
    (finding,) = endpoint(authority, authority.issue("old", expired=True)).findings
    assert (finding.rule, finding.severity) == ("infrastructure.certificate", "critical")
    assert "certificate has expired" in finding.summary


def test_an_endpoint_that_proves_another_name_is_told_unless_that_is_the_name_wanted(authority: Authority) -> None:
    tls = authority.issue("elsewhere", ["vault.example"], days=20)
    (finding,) = endpoint(authority, tls).findings
    assert (finding.rule, finding.severity) == ("infrastructure.certificate", "high")
    assert endpoint(authority, tls, server_name="vault.example") == Scan([], [])


def test_an_endpoint_that_refuses_is_unreachable() -> None:
    def peer(*_arguments: object) -> bytes:
        raise HttpError("refused", "No connection.")

    seen, *_rest = scan({"certificates": [{"endpoint": "h:443"}], "attempts": 1}, peer=peer)
    assert [(finding.rule, finding.key) for finding in seen.findings] == [
        ("infrastructure.unreachable", ("certificate", "h:443"))
    ]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"log_store": {"url": "loki:3100"}}, r"log_store\.url"),
        ({"log_store": {"url": "http://x", "type": "es"}}, "loki or http"),
        ({"vault": [{"url": "https://x"}]}, r"vault\[0\] lacks name"),
        ({"vault": [VAULT, VAULT]}, "twice"),
        ({"certificates": [{}]}, "either path or endpoint"),
        ({"certificates": [{"path": "/x", "endpoint": "h:1"}]}, "either path or endpoint"),
        ({"certificates": [{"endpoint": "h:1/path"}]}, "host:port"),
        ({"certificates": [{"endpoint": "h h"}]}, "endpoint"),
        ({"attempts": 0}, "attempts"),
        ({"vaults": []}, "no option vaults"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(DetectionError, match=message):
        Options.from_config(config)


def test_a_scan_in_a_child_sees_what_a_scan_sees(authority: Authority) -> None:
    soon, _key = authority.issue("soon2", days=3)
    with serving(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n") as server:
        given = options(
            vault=[{"name": "v", "url": f"http://127.0.0.1:{server.port}"}],
            certificates=[{"path": str(soon)}, {"path": "/none.pem"}],
            log_store={"url": f"http://127.0.0.1:{server.port}"},
        )
        now = time.time()
        with infrastructure.start(given, now) as running:
            got = running.finish()
        assert got == infrastructure.scan(given, now)
    assert got[1] == "unready"
    assert len(got[0].findings) == 3
    assert len(got[0].blind) == 1


def test_when_no_process_is_to_be_had_the_work_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("os.fork", fork)
    with infrastructure.start(options(certificates=[{"path": "/none.pem"}]), time.time()) as running:
        assert len(running.finish()[0].blind) == 1


def test_a_child_that_dies_makes_everything_blind_and_nothing_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(infrastructure, "scan", lambda *_: os._exit(9))
    given = options(vault=[VAULT], log_store=STORE)
    with infrastructure.start(given, time.time()) as running:
        seen, state = running.finish()
    assert (len(seen.blind), seen.findings, state) == (2, [], "blind")


def test_probes_tell_no_path_of_an_url() -> None:
    store = {"url": "https://es/secret?key=secret", "type": "http"}
    seen, *_rest = scan({"log_store": store}, 403, 403)
    assert "secret" not in str(seen)


def test_the_default_functions_are_the_real_ones() -> None:
    assert infrastructure.scan.__defaults__ == (transport.get, transport.peer_certificate, time.sleep)
