# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What host detection is tested with: a real Loki, and webhooks that answer as they are told."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from lab import Lab, LabError
from lab.processes import wait_for
from lab.receiver import CLOSE, HANG


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as running:
        yield running


def send(lab: Lab, name: str, body: Any = None, **options: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        url = f"{lab.receiver.https}/{name}"
        return session.post(url, json=body or {}, verify=str(lab.authority.ca_file), timeout=5, **options)


def control(lab: Lab, method: str, name: str, body: Any = None) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, f"{lab.receiver.http}/control/{name}", json=body, timeout=90)


def test_loki_is_ready_hangs_and_comes_back(lab: Lab) -> None:
    wait_for("Loki", lab.loki.ready)
    lab.loki.become("hung")
    assert not lab.loki.ready()
    lab.loki.become("up")
    wait_for("Loki", lab.loki.ready)
    lab.loki.become("down")
    assert not lab.loki.ready()

    lab.loki.become("up")

    wait_for("Loki", lab.loki.ready)
    with pytest.raises(LabError, match="sideways is none of"):
        lab.loki.become("sideways")


def test_what_arrives_is_remembered_without_its_secret(lab: Lab) -> None:
    answer = send(lab, "seen", {"events": [1]}, headers={"Authorization": "Bearer s3cret", "X-Token": "s3cret"})

    assert answer.status_code == 200
    told = control(lab, "GET", "seen").json()
    (arrived,) = told["arrived"]
    assert (arrived["path"], arrived["body"], arrived["status"]) == ("/seen", {"events": [1]}, 200)
    assert arrived["authorization_sha256"] == hashlib.sha256(b"Bearer s3cret").hexdigest()
    assert "s3cret" not in str(told)

    assert control(lab, "DELETE", "seen").status_code == 200
    assert control(lab, "GET", "seen").json() == {"forgotten": 0, "arrived": []}


def test_it_answers_as_it_is_told_for_as_often(lab: Lab) -> None:
    control(lab, "PUT", "busy", {"status": 429, "retry_after": 1, "times": 2})

    answers = [send(lab, "busy") for _unused in range(3)]

    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert [answer.headers.get("Retry-After") for answer in answers] == ["1", "1", None]


def test_it_hangs_until_it_is_told_otherwise_and_closes(lab: Lab) -> None:
    lab.receiver.answer("slow", HANG)
    with pytest.raises(requests.Timeout):
        requests.post(f"{lab.receiver.http}/slow", json={}, timeout=0.3)
    lab.receiver.answer("slow", CLOSE)
    with pytest.raises(requests.ConnectionError):
        send(lab, "slow")
    lab.receiver.answer("slow")
    send(lab, "slow")

    assert [arrival.status for arrival in lab.receiver.arrived("slow")] == [None, None, 200]


def test_what_it_is_told_wrongly_is_refused(lab: Lab) -> None:
    for body in ({"status": 99}, {"status": "soon"}, {"colour": "red"}, [1]):
        assert control(lab, "PUT", "odd", body).status_code == 400
    assert control(lab, "PUT", "switch/nothing", {"state": "up"}).status_code == 400


def test_a_switch_reaches_the_lab(lab: Lab) -> None:
    lab.receiver.switches["loki"] = lab.loki.become

    assert control(lab, "PUT", "switch/loki", {"state": "hung"}).status_code == 200
    assert not lab.loki.ready()
    assert control(lab, "PUT", "switch/loki", {"state": "up"}).status_code == 200
    wait_for("Loki", lab.loki.ready)
    assert control(lab, "PUT", "switch/loki", {"state": "sideways"}).status_code == 500
