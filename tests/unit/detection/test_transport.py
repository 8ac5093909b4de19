# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP that ends by its deadline, verifies certificates and tells no secret, against servers that do their worst."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import transport
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.errors import DetectionError
from hypothesis import given
from hypothesis import strategies as st
from lab.pki import Authority
from unit.detection.webserver import Server, read_request, serving

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready"
SHORT, LONG = 0.5, 10.0
"""Seconds: the deadline where only the deadline ends it, and where something else has to be faster."""
HANGS = 60.0
"""Seconds that a server holds who waits for it."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@contextmanager
def in_time() -> Iterator[None]:
    """By the deadline, and not because the server let go: a machine under load is late, but not by half a minute."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < HANGS / 2


over = threading.Event()
"""Set at the end of each test: no thread of its server outlives it, as the signals of other tests would find it."""


@pytest.fixture(autouse=True)
def _servers_end() -> Iterator[None]:
    over.clear()
    yield
    over.set()


def post(url: str, ca_cert: str | None, timeout: float) -> transport.Answer:
    return transport.post(url, b"x", {}, ca_cert, timeout)


BOTH = pytest.mark.parametrize("ask", [transport.get, post])


def failure(
    url: str,
    ca_cert: str | None = None,
    timeout: float = LONG,
    ask: Callable[[str, str | None, float], transport.Answer] = transport.get,
) -> transport.HttpError:
    with in_time(), pytest.raises(transport.HttpError) as caught:
        ask(url, ca_cert, timeout)
    assert "secret" not in str(caught.value)
    return caught.value


def at(server: Server, scheme: str = "http", host: str = "127.0.0.1") -> str:
    return f"{scheme}://{host}:{server.port}/secret/path?token=secret"


def test_a_get_brings_the_status() -> None:
    with serving(OK) as server:
        assert transport.get(at(server), None, 5) == transport.Answer(200)
    head = server.requests[0].decode()
    assert head.startswith("GET /secret/path?token=secret HTTP/1.1\r\n")
    assert f"\r\nHost: 127.0.0.1:{server.port}\r\n" in head


def test_a_post_sends_its_body_and_headers() -> None:
    with serving(b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n") as server:
        answer = transport.post(at(server), b'{"a": 1}', {"Authorization": "Bearer x"}, None, 5)
    assert (answer.status, answer.retry_after) == (429, 7.0)
    assert b"\r\nAuthorization: Bearer x\r\n" in server.requests[0]
    assert b"\r\nContent-Length: 8\r\n" in server.requests[0]
    assert server.requests[0].endswith(b'\r\n\r\n{"a": 1}')


def test_tls_is_spoken_with_a_server_whose_certificate_the_given_ca_has_signed(authority: Authority) -> None:
    with serving(OK, authority.issue("good")) as server:
        assert transport.get(at(server, "https"), str(authority.ca_file), 5).status == 200
        assert transport.get(at(server, "https", "localhost"), str(authority.ca_file), 5).status == 200


def test_a_certificate_is_never_taken_on_trust(authority: Authority, tmp_path: Path) -> None:
    ca_file = str(authority.ca_file)
    with serving(OK, authority.issue("good")) as server:
        error = failure(at(server, "https"), None)
        assert (error.kind, error.certificate, error.expired) == ("tls", True, False)
        assert failure(at(server, "https"), str(Authority(tmp_path / "other").ca_file)).certificate
    with serving(OK, authority.issue("elsewhere", ["vault.example"])) as server:
        error = failure(at(server, "https"), ca_file)
        assert (error.kind, error.certificate, error.expired) == ("tls", True, False)
    with serving(OK, authority.issue("old", expired=True)) as server:
        error = failure(at(server, "https"), ca_file)
        assert (error.kind, error.certificate, error.expired) == ("tls", True, True)
        assert str(error) == (f"The certificate of 127.0.0.1:{server.port} is not accepted: certificate has expired.")


def test_nothing_of_the_environment_counts(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with serving(OK, authority.issue("good")) as server:
        assert failure(at(server, "https"), None).certificate
        assert transport.get(at(server, "https"), str(authority.ca_file), 5).status == 200
    assert not (tmp_path / "keys").exists()


def test_tls_before_1_2_is_not_spoken(authority: Authority) -> None:
    context = transport._context(str(authority.ca_file))
    assert context.minimum_version.name == "TLSv1_2"
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"


@pytest.mark.parametrize(
    "content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_ca_file_that_is_none_is_this_hosts_own_trouble(tmp_path: Path, content: bytes) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(content)
    error = failure("https://127.0.0.1:1/", str(ca_file))
    assert error.kind == "ca"
    assert str(ca_file) in str(error)


def test_a_ca_file_that_is_missing_or_a_fifo_is_this_hosts_own_trouble(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "fifo")
    assert failure("https://127.0.0.1:1/", str(tmp_path / "none")).kind == "ca"
    assert failure("https://127.0.0.1:1/", str(tmp_path / "fifo")).kind == "ca"


def test_a_redirect_is_an_answer() -> None:
    with serving(b"HTTP/1.1 307 Over there\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n") as server:
        assert transport.get(at(server), None, 5).status == 307
    assert len(server.requests) == 1


def test_a_port_that_nobody_listens_on_is_refused() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        error = failure(f"http://127.0.0.1:{sock.getsockname()[1]}/secret")
    assert error.kind == "refused"
    assert "Connection refused" in str(error)


def silent(_sock: socket.socket) -> None:
    over.wait(HANGS)


def drip(piece: bytes, head: bytes = b"") -> object:
    def treat(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(head)
        while not over.wait(0.02):
            sock.sendall(piece)

    return treat


@pytest.mark.parametrize(
    "treatment",
    [
        pytest.param(silent, id="says nothing"),
        pytest.param(drip(b"x"), id="drips its status line"),
        pytest.param(drip(b"HTTP/1.1 100 Continue\r\n\r\n"), id="goes on and on with 100 Continue"),
    ],
)
@BOTH
def test_a_server_that_gives_no_answer_holds_nobody_beyond_the_deadline(treatment: Any, ask: Any) -> None:
    with serving(treatment) as server:
        assert failure(at(server), timeout=SHORT, ask=ask).kind in ("timeout", "protocol")


def test_headers_that_never_end_are_no_answer_to_a_post_and_matter_to_no_probe() -> None:
    treatment: Any = drip(b"X-Header: 1\r\n", b"HTTP/1.1 200 OK\r\n")
    with serving(treatment) as server:
        assert failure(at(server), timeout=SHORT, ask=post).kind in ("timeout", "protocol")
    with serving(treatment) as server, in_time():
        assert transport.get(at(server), None, 4 * SHORT).status == 200


def test_a_server_that_hangs_in_the_handshake_holds_nobody() -> None:
    with serving(silent) as server:
        error = failure(at(server, "https"), timeout=SHORT)
    assert error.kind == "timeout"


def test_a_server_that_does_not_read_what_it_is_sent_holds_nobody() -> None:
    with serving(silent) as server, in_time(), pytest.raises(transport.HttpError) as caught:
        transport.post(at(server), b"x" * (16 << 20), {}, None, SHORT)
    assert caught.value.kind == "timeout"


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
@BOTH
def test_an_answer_is_one_although_its_body_never_ends(head: bytes, ask: Any) -> None:
    def treat(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(head)
        over.wait(HANGS)

    with serving(treat) as server, in_time():
        assert ask(at(server), None, 4 * SHORT).status == 200


def test_gigabytes_are_not_read() -> None:
    sent = []

    def treat(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n")
        while True:
            sent.append(sock.send(b"x" * 65536))

    with serving(treat) as server:
        assert post(at(server), None, 5).body == b"x" * transport.LONGEST_BODY
    assert sum(sent) < 16 << 20


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\0\xff\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n", b"x" * 100_000],
)
@BOTH
def test_garbage_is_no_answer_and_is_not_repeated_in_the_message(garbage: bytes, ask: Any) -> None:
    with serving(garbage) as server:
        error = failure(at(server), ask=ask)
    assert error.kind == "protocol"
    assert len(str(error)) < 200
    assert str(error).isprintable()


def test_an_early_refusal_is_heard_although_the_request_was_not_read_to_its_end() -> None:
    def treat(sock: socket.socket) -> None:
        sock.recv(1000)
        sock.sendall(b"HTTP/1.1 413 Too large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        time.sleep(0.2)
        while sock.recv(1 << 20):
            pass

    with serving(treat) as server:
        assert transport.post(at(server), b"x" * 200_000, {}, None, 5).status == 413


def test_a_name_server_that_hangs_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    real, never = socket.getaddrinfo, threading.Event()

    def look_up(host: str, *arguments: object, **options: object) -> object:
        if options.get("flags"):
            return real(host, *arguments, **options)  # type: ignore[arg-type]
        never.wait(HANGS)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    error = failure("https://vault.example:8200/secret", timeout=SHORT)
    never.set()
    assert error.kind == "dns"
    assert "vault.example:8200" in str(error)


def test_a_name_that_does_not_exist_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_arguments: object, **_options: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    error = failure("http://nowhere.example/secret")
    assert (error.kind, str(error)) == (
        "dns",
        "The name of nowhere.example:80 is not resolved: Name or service not known.",
    )
    monkeypatch.undo()
    assert failure(f"http://{'a' * 200}/").kind == "dns"


def test_the_next_address_is_tried_when_one_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(OK) as server, socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        both = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
            for port in (deaf.getsockname()[1], server.port)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: both)
        assert transport.get(at(server, host="two.example"), None, 5).status == 200


def proxied(server: Server, authority: Authority, via: str) -> transport.Answer:
    return transport.post(at(server, "https"), b"x", {}, str(authority.ca_file), 2, proxy=via)


def test_a_proxy_is_asked_to_connect_and_sees_nothing_of_the_request(authority: Authority) -> None:
    seen = []

    def proxy(sock: socket.socket) -> None:
        head = read_request(sock)
        seen.append(head)
        target = head.split()[1].decode().rsplit(":", 1)
        with socket.create_connection((target[0], int(target[1]))) as beyond:
            sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            pipe = threading.Thread(target=copy, args=(beyond, sock), daemon=True)
            pipe.start()
            copy(sock, beyond)
            pipe.join(2)

    with serving(OK, authority.issue("good")) as server, serving(proxy) as via:
        assert proxied(server, authority, f"http://127.0.0.1:{via.port}").status == 200
    assert seen[0].startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\n".encode())
    assert b"secret" not in seen[0]


def copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while part := source.recv(65536):
            sink.sendall(part)
    except OSError:
        pass


def test_a_proxy_that_refuses_is_named(authority: Authority) -> None:
    with serving(OK, authority.issue("good")) as server:
        with serving(b"HTTP/1.1 403 No\r\n\r\n") as via, pytest.raises(transport.HttpError) as caught:
            proxied(server, authority, f"http://127.0.0.1:{via.port}")
        assert str(caught.value) == (f"The proxy 127.0.0.1:{via.port} answers 403 to CONNECT 127.0.0.1:{server.port}.")
        with serving(b"") as via, pytest.raises(transport.HttpError, match="gives no answer to CONNECT"):
            proxied(server, authority, f"http://127.0.0.1:{via.port}")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("12", 12.0),
        ("0", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("9" * 5000, None),
        ("", None),
        ("²", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str, seconds: float | None) -> None:
    assert transport._seconds(value) == seconds


@pytest.mark.parametrize(
    "url",
    [
        "", "ftp://x/", "https://", "https://user:secret@host/", "https://host/secret path",
        "https://host/secret#x", "https://host:0/", "https://host:65536/", "https://hö/secret", "https://host/\x00",
        "https://host:8\n",
        "https://host/a\r\nX: secret", "//host/", "https://[::1/", "https://host\r\n/", "https://a/\x7f",
    ],
)  # fmt: skip
def test_what_is_no_plain_url_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(DetectionError, match=r"my\.url") as caught:
        transport.parse_url(url, "my.url")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://host", ("https", "host", 443, "/")),
        ("http://host?a=b", ("http", "host", 80, "/?a=b")),
        ("https://[::1]:8200/v1/", ("https", "::1", 8200, "/v1/")),
        ("https://10.0.0.1:1/services/T0/B0/x!\"%20'", ("https", "10.0.0.1", 1, "/services/T0/B0/x!\"%20'")),
    ],
)
def test_a_url_has_these_parts(url: str, parts: tuple[object, ...]) -> None:
    assert tuple(transport.parse_url(url, "x")) == parts


def test_a_url_keeps_its_path_out_of_messages() -> None:
    url = transport.parse_url("https://[::1]:1/secret", "x")
    assert repr(url) == "<Url https://[::1]:1>"


@given(st.text(max_size=40))
def test_whatever_is_taken_for_a_url_cannot_end_a_line_of_the_request(path: str) -> None:
    try:
        url = transport.parse_url(f"https://host/{path}", "x")
    except DetectionError:
        return
    assert url.target.isascii()
    assert url.target.isprintable()
    assert " " not in url.target
