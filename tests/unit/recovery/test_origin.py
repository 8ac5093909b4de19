# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a snapshot's origin is alive: its answers, and what follows from them."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.origin import ask, judge
from lab.pki import Authority

ID = "45c5a04b-1d4e-4bd6-a2f8-d9d0a1c1ddbc"
URL = "https://vault-1:8200"


@contextmanager
def serving(answer: bytes, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Answer connections on loopback with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    sock = listener.accept()[0]
                except OSError:
                    return
                with suppress(OSError), context.wrap_socket(sock, server_side=True) if context else sock as peer:
                    peer.recv(65536)
                    peer.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        # Closing alone does not end an accept that waits.
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def http(status: str, body: object) -> bytes:
    content = json.dumps(body).encode()
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(content), content)


@pytest.mark.parametrize(
    ("status", "body", "known"),
    [
        ("200 OK", {"cluster_id": ID, "cluster_name": "prod", "sealed": False}, (ID, "prod", False)),
        ("429 Too Many Requests", {"cluster_id": ID, "sealed": False}, (ID, None, False)),
        ("503 Service Unavailable", {"sealed": True}, (None, None, True)),
        # A listener that redacts cluster names answers with empty ones.
        ("200 OK", {"cluster_id": "", "cluster_name": "", "sealed": False}, (None, None, False)),
    ],
)
def test_the_answer_counts_whatever_its_status(status: str, body: Any, known: tuple[Any, ...]) -> None:
    with serving(http(status, body)) as port:
        answer = ask(f"http://127.0.0.1:{port}", None, 10)
    assert answer["reachable"] is True
    assert (answer["cluster_id"], answer["cluster_name"], answer["sealed"]) == known
    assert answer["problem"] is None


@pytest.mark.parametrize("body", [[1], "text", 7, None])
def test_what_is_no_vault_reports_nothing(body: object) -> None:
    with serving(http("200 OK", body)) as port:
        answer = ask(f"http://127.0.0.1:{port}", None, 10)
    assert (answer["cluster_id"], answer["problem"]) == (None, "its answer is not that of a Vault server")


def test_bytes_that_are_no_http() -> None:
    with serving(b"SSH-2.0-OpenSSH\r\n") as port:
        answer = ask(f"http://127.0.0.1:{port}", None, 10)
    assert answer["reachable"] is True
    assert answer["problem"]


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    answer = ask(f"https://127.0.0.1:{port}", None, 10)
    assert answer["reachable"] is False
    assert "refused" in answer["problem"]


@pytest.mark.parametrize("url", ["", "vault-1:8200", "https://", "https://h:port"])
def test_what_is_no_address_is_an_answer(url: str) -> None:
    assert ask(url, None, 1)["reachable"] is False


def test_tls_is_verified_and_an_unverified_answer_is_told_as_one(tmp_path: Path) -> None:
    ours, other = (Authority(tmp_path / name) for name in ("ours", "other"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*ours.issue("vault"))
    body = http("200 OK", {"cluster_id": ID, "sealed": False})
    for ca, problem in ((ours, "None"), (other, "its certificate does not verify")):
        with serving(body, context) as port:
            answer = ask(f"https://127.0.0.1:{port}", ca.ca_file.read_text(), 10)
        assert (answer["reachable"], answer["cluster_id"]) == (True, ID)
        assert str(answer["problem"]).startswith(problem)


def answer(**facts: Any) -> dict[str, Any]:
    known = {"reachable": True, "cluster_id": None, "cluster_name": None, "sealed": False, "problem": None}
    return {"url": URL, "from": "vault-9", **known, **facts}


@pytest.mark.parametrize(
    ("answers", "facts", "result", "said"),
    [
        ([answer(cluster_id=ID)], {}, "failed", f"{URL} (asked from vault-9) reports its cluster ID {ID}"),
        ([answer(reachable=False), answer(cluster_id=ID)], {}, "failed", "is alive"),
        ([answer(cluster_id=ID)], {"isolated": True}, "passed", "vault_recovery_origin_isolated is set"),
        ([answer(cluster_id="another")], {}, "passed", "No node of the origin's cluster answers"),
        ([answer(reachable=False)], {}, "passed", "(asked from vault-9)"),
        ([answer(sealed=True)], {}, "not checked", f"{URL} is sealed"),
        ([answer(problem="its certificate does not verify: x")], {}, "not checked", "does not verify: x"),
        # It can stop a recovery, and not let one pass.
        ([answer(cluster_id="another", problem="its certificate does not verify: x")], {}, "not checked", "verify: x"),
        ([answer(cluster_id=ID, problem="its certificate does not verify: x")], {}, "failed", "is alive"),
        ([answer()], {}, "not checked", "reports no ID"),
        ([answer(cluster_id=ID)], {"cluster_id": None}, "not checked", "the manifest has no cluster ID"),
        ([], {}, "not checked", "could not be asked"),
        ([], {"asked": [], "cluster_id": None}, "not checked", "the snapshot has no manifest"),
        ([], {"asked": []}, "passed", "no known address but those of the target"),
    ],
)
def test_what_follows(answers: list[dict[str, Any]], facts: dict[str, Any], result: str, said: str) -> None:
    given = {"asked": [URL], "cluster_id": ID, "isolated": False, **facts}
    verdict = judge(answers, given["asked"], given["cluster_id"], given["isolated"])
    assert verdict[0] == result
    assert said in verdict[1]
