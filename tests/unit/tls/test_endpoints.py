# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints side by side: one that hangs or is gone holds up no other, and each says what it came to."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.chain import Bundle
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.endpoints import Endpoint, look
from cryptography import x509
from OpenSSL import SSL

from .test_chain import GOOD, MIDDLE, ROOT

BUNDLE = Bundle(ROOT.pem, "the bundle")
CHAIN = [GOOD.certificate, MIDDLE.certificate]


def answers(endpoint: Endpoint, timeout: float) -> Sequence[x509.Certificate]:
    raised = {
        "gone": ConnectionRefusedError(111, "Connection refused"),
        "slow": TimeoutError(),
        "plain": SSL.Error([("SSL routines", "", "wrong version number")]),
        "cut": SSL.SysCallError(-1, "Unexpected EOF"),
        "no-name": OSError(-2, "Name or service not known"),
    }
    if endpoint.host in raised:
        raise raised[endpoint.host]
    return [] if endpoint.host == "empty" else CHAIN


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("gone", "gone:443 cannot be reached: Connection refused."),
        ("slow", "slow:443 does not answer within 3 s."),
        ("plain", "plain:443 makes no TLS handshake: wrong version number."),
        ("cut", "cut:443 makes no TLS handshake: Unexpected EOF."),
        ("no-name", "no-name:443 cannot be reached: Name or service not known."),
        ("empty", "empty:443 presents no certificate."),
        ("fd00::1", "It is for www.example.com, and not for fd00::1."),
        ("www.example.com", ""),
    ],
)
def test_what_each_comes_to(host: str, why: str) -> None:
    (seen,) = look([Endpoint(host, 443)], [], BUNDLE, timeout=3, ask=answers)
    told = seen.to_dict(0)
    assert told["why"] == why
    assert told["good"] is (why == "")


def test_the_name_that_is_asked_for_counts() -> None:
    (seen,) = look([Endpoint("10.0.0.7", 636, "www.example.com")], [], BUNDLE, ask=answers)
    assert seen.to_dict(0)["good"]


def test_what_ends_too_soon() -> None:
    (seen,) = look([Endpoint("www.example.com", 443)], [], BUNDLE, ask=answers)
    told = seen.to_dict(31)
    assert not told["good"]
    assert "before the 31 that are asked for" in told["why"]


def test_as_many_at_once_as_are_allowed_and_in_order() -> None:
    running, most, guard = 0, 0, threading.Lock()
    all_there = threading.Barrier(4, timeout=60)

    def ask(_endpoint: Endpoint, _timeout: float) -> Sequence[x509.Certificate]:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        all_there.wait()
        with guard:
            running -= 1
        return CHAIN

    endpoints = [Endpoint(f"host-{number}", 443) for number in range(40)]
    seen = look(endpoints, [], BUNDLE, parallel=4, ask=ask)
    assert most == 4
    assert [one.title for one in seen] == [one.title for one in endpoints]


def test_files(tmp_path: Path) -> None:
    whole, empty, key = tmp_path / "whole.pem", tmp_path / "empty.pem", tmp_path / "key.pem"
    whole.write_bytes(GOOD.key_pem + GOOD.pem + MIDDLE.pem)
    empty.write_bytes(b"")
    key.write_bytes(GOOD.key_pem)
    paths = [str(whole), str(empty), str(key), str(tmp_path / "gone.pem")]
    told = [one.to_dict(0) for one in look([], paths, BUNDLE)]
    assert [one["good"] for one in told] == [True, False, False, False]
    assert "has no certificate" in told[1]["why"]
    assert "has no certificate" in told[2]["why"]
    assert "cannot be read: No such file" in told[3]["why"]
