# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real endpoints of TLS: good, expired, one that hangs, one that speaks no TLS; and a thousand side by side."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.chain import Bundle
from ansible_collections.custodes.security_dr.plugins.module_utils.tls.endpoints import Endpoint, look
from lab.pki import Authority
from lab.receiver import Receiver


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def serve(stack: ExitStack, certificate: tuple[Path, Path]) -> int:
    return int(stack.enter_context(Receiver(certificate=certificate)).https.rpartition(":")[2])


def silent(stack: ExitStack) -> int:
    """One that takes connections and says nothing."""
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=16))
    return int(server.getsockname()[1])


def test_each_is_judged(authority: Authority, stack: ExitStack) -> None:
    bundle = Bundle(authority.ca_file.read_bytes(), str(authority.ca_file))
    good = serve(stack, authority.issue("good"))
    expired = serve(stack, authority.issue("expired", expired=True))
    plain = int(stack.enter_context(Receiver()).http.rpartition(":")[2])
    endpoints = [
        Endpoint("127.0.0.1", good),
        Endpoint("localhost", good),
        Endpoint("127.0.0.1", good, "other.example.com"),
        Endpoint("127.0.0.1", expired),
        Endpoint("127.0.0.1", plain),
        Endpoint("127.0.0.1", silent(stack)),
        Endpoint("127.0.0.1", 1),
    ]
    told = [one.to_dict(0) for one in look(endpoints, [], bundle, timeout=10)]
    assert [one["good"] for one in told] == [True, True, False, False, False, False, False]
    reasons = ["", "", "not for other.example.com", "has ended on", "no TLS handshake", "within 10 s", "refused"]
    for one, reason in zip(told, reasons, strict=True):
        assert reason in one["why"]
    assert 6 < told[0]["days_left"] < 8


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_one_that_demands_a_clients_certificate(
    authority: Authority, stack: ExitStack, version: ssl.TLSVersion
) -> None:
    bundle = Bundle(authority.ca_file.read_bytes(), str(authority.ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("demanding"))
    context.load_verify_locations(authority.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = version
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    refused: list[str] = []

    def serve() -> None:
        connection, _address = listener.accept()
        with connection:
            try:
                context.wrap_socket(connection, server_side=True)
            except OSError as error:
                refused.append(str(error))

    server = threading.Thread(target=serve)
    server.start()
    (seen,) = look([Endpoint("127.0.0.1", int(listener.getsockname()[1]))], [], bundle)
    server.join()
    assert len(refused) == 1
    told = seen.to_dict(0)
    assert told["good"], told["why"]


def test_a_thousand_with_some_that_hang(authority: Authority, stack: ExitStack) -> None:
    bundle = Bundle(authority.ca_file.read_bytes(), str(authority.ca_file))
    good = serve(stack, authority.issue("many"))
    hangs = silent(stack)
    endpoints = [Endpoint("127.0.0.1", hangs if number % 100 == 0 else good) for number in range(1000)]
    seen = look(endpoints, [], bundle, timeout=20)
    assert [not one.verdict for one in seen] == [number % 100 == 0 for number in range(1000)]
