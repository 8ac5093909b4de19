# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""step-ca by script: pages, refusals, answers of another shape, and a token that shows in no message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests
from ansible_collections.custodes.security_dr.plugins.module_utils.ca import authority
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.certificates import request_for
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.errors import CaError
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.jose import decoded
from ansible_collections.custodes.security_dr.plugins.module_utils.ca.step_ca import StepCa
from lab.pki import Authority
from lab.step_ca import provisioner_key

URL = "https://ca.example.com"
PUBLIC, ENCRYPTED = provisioner_key("open sesame")
DRILL = {"type": "JWK", "name": "drill", "key": PUBLIC, "encryptedKey": ENCRYPTED}


class Session:
    """In the place of a requests session: answers by path."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {"health": {"status": "ok"}, **answers}
        self.asked: list[tuple[str, str, Any]] = []
        self.options: dict[str, Any] = {}
        self.trust_env = True

    def request(self, method: str, url: str, json: Any = None, **options: Any) -> Session.Answer:
        path = url.removeprefix(f"{URL}/")
        self.asked.append((method, path, json))
        self.options = options
        answer = self.answers.get(path, (404, {"status": 404, "message": "Not Found"}))
        if isinstance(answer, Exception):
            raise answer
        return Session.Answer(*answer) if isinstance(answer, tuple) else Session.Answer(200, answer)

    class Answer:
        def __init__(self, status: int, body: Any) -> None:
            self.status_code = status
            self._body = body

        def json(self) -> Any:
            if self._body is None:
                raise ValueError("no JSON")
            return self._body


def step(session: Session) -> StepCa:
    return StepCa(f"{URL}/", "/root.pem", session=session, clock=lambda: 1000.0)


def provisioners(*found: Any, cursor: str = "") -> dict[str, Any]:
    return {"provisioners": list(found), "nextCursor": cursor}


def test_the_request_that_is_signed() -> None:
    session = Session(
        **{"provisioners?limit=100": provisioners(DRILL), "1.0/sign": (201, {"certChain": ["leaf", "middle"]})}
    )
    assert step(session).sign("a.example.com", "CSR", "drill", "open sesame", "5m") == ["leaf", "middle"]
    body = session.asked[-1][2]
    assert (body["csr"], body["notAfter"]) == ("CSR", "5m")
    claims = json.loads(decoded(body["ott"].split(".")[1]))
    assert len(claims.pop("jti")) == 64
    times = {"iat": 1000, "nbf": 1000, "exp": 1300}
    who = {"aud": f"{URL}/1.0/sign", "iss": "drill", "sub": "a.example.com", "sans": ["a.example.com"]}
    assert claims == {**times, **who}
    assert json.loads(decoded(body["ott"].split(".")[0]))["kid"] == PUBLIC["kid"]
    assert (session.options["verify"], session.options["allow_redirects"]) == ("/root.pem", False)
    assert session.trust_env is False


def test_the_second_page_is_read_and_a_cursor_that_never_ends_is_not_followed_for_ever() -> None:
    session = Session(
        **{
            "provisioners?limit=100": provisioners({"type": "ACME", "name": "acme"}, cursor="c1"),
            "provisioners?limit=100&cursor=c1": provisioners(DRILL),
        }
    )
    assert [one["name"] for one in step(session).provisioners()] == ["acme", "drill"]
    session.answers["provisioners?limit=100&cursor=c1"] = provisioners(DRILL, cursor="c1")
    assert len(step(session).provisioners()) == 100


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"1.0/sign": (401, {"message": "token expired"})}, "answered with 401: token expired"),
        ({"1.0/sign": (500, None)}, "answered with 500: no reason given"),
        ({"1.0/sign": (201, {})}, "answered without a certificate"),
        ({"1.0/sign": (201, {"certChain": [1]})}, "answered without a certificate"),
        ({"1.0/sign": (201, None)}, "not JSON"),
        ({"1.0/sign": requests.ConnectionError("refused")}, "Does it run"),
        ({"1.0/sign": requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED")}, "Is ca_cert its root"),
        ({"provisioners?limit=100": provisioners()}, "It has: none"),
        ({"provisioners?limit=100": provisioners({**DRILL, "type": "ACME"})}, r"It has: drill \(ACME\)"),
        ({"provisioners?limit=100": provisioners({**DRILL, "encryptedKey": ""})}, "keeps its encrypted key to itself"),
    ],
)
def test_what_it_refuses(answers: dict[str, Any], words: str) -> None:
    session = Session(**{"provisioners?limit=100": provisioners(DRILL), **answers})
    with pytest.raises(CaError, match=words) as told:
        step(session).sign("a.example.com", "CSR", "drill", "open sesame")
    assert "eyJ" not in str(told.value)
    assert "sesame" not in str(told.value)


@pytest.mark.parametrize("answer", [{"status": "bad"}, {}, (503, {"message": "x"}), (200, []), (302, None)])
def test_one_that_is_not_well(answer: Any) -> None:
    with pytest.raises(CaError):
        step(Session(health=answer)).health()


@pytest.mark.parametrize("url", ["http://ca.example.com", "ca.example.com", ""])
def test_only_https(url: str) -> None:
    with pytest.raises(CaError, match="https://HOST:PORT"):
        StepCa(url, session=Session())


def test_what_is_told(tmp_path: Path) -> None:
    pem = Authority(tmp_path).ca_file.read_text()
    told = authority.of_step_ca(step(Session(roots={"crts": [pem]}, intermediates={"crts": [pem]})))
    assert [one["state"] for one in told] == ["trusted", "active"]
    # An older one does not tell its intermediates.
    assert [one["state"] for one in authority.of_step_ca(step(Session(roots={"crts": [pem]})))] == ["trusted"]
    with pytest.raises(CaError, match="without certificates"):
        step(Session(roots={"crts": None})).roots()
    with pytest.raises(CaError, match=r"What https://ca.example.com gives"):
        authority.of_step_ca(step(Session(roots={"crts": ["no PEM"]})))


def test_a_request_is_for_its_name_and_its_key_is_new() -> None:
    assert request_for("a.example.com") != request_for("a.example.com")
