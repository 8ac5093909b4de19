# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a token goes and where it does not, what is repeated, and what an answer is taken for."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from pathlib import Path
from typing import Any

import pytest
import requests
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import (
    CHUNK,
    Connection,
    VaultClient,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import (
    VaultApiError,
    VaultConfigError,
    VaultError,
    VaultPermissionError,
    VaultSealedError,
    VaultUnreachableError,
)
from unit.vault.fake import (
    OTHER,
    URL,
    Clock,
    FakeVault,
    Stream,
    chained,
    errors,
    node,
    redact,
    refused,
    reset,
    silent,
)
from urllib3.exceptions import MaxRetryError, ProtocolError, SSLError

TOKEN = "hvs.aToken"


def retrying(vault: FakeVault, clock: Clock, retries: int = 2) -> VaultClient:
    return VaultClient(Connection(URL, retries=retries), TOKEN, clock.sleep, vault.session())


def tls_broken() -> BaseException:
    """A TLS connection that ends in the middle, before or after the request was sent."""
    inner = SSLError("EOF occurred in violation of protocol (_ssl.c:1006)")
    most = MaxRetryError(None, "/v1/x", inner)  # type: ignore[arg-type]
    return chained(requests.exceptions.SSLError(most), most, inner)


class TestWhereTheTokenGoes:
    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_no_redirect_is_followed(self, vault: FakeVault, status: int) -> None:
        vault.on("GET", "x", status=status, headers={"Location": f"{OTHER}/v1/x"})
        vault.on("GET", "x", {}, at=OTHER)
        with pytest.raises(VaultApiError, match=f"redirected .HTTP {status}. to {OTHER}/v1/x") as caught:
            vault.client(token=TOKEN).request("GET", "x")
        assert caught.value.status == status
        assert vault.tokens_at(OTHER) == set()
        assert len(vault.seen) == 1

    def test_nor_by_hvac_nor_while_streaming_nor_with_a_body(self, vault: FakeVault) -> None:
        for method in ("GET", "POST"):
            vault.on(method, "sys/auth", status=307, headers={"Location": f"{OTHER}/v1/sys/auth"})
            vault.on(method, "sys/auth", {}, at=OTHER)
        client = vault.client(token=TOKEN)
        with pytest.raises(VaultApiError):
            client.hvac.sys.list_auth_methods()
        with pytest.raises(VaultApiError), client.download("sys/auth", 1.0):
            pass
        with pytest.raises(VaultApiError):
            client.upload("sys/auth", io.BytesIO(b"x"), 1.0)
        assert client.status("sys/auth") == (307, {})
        assert vault.tokens_at(OTHER) == set()

    def test_a_leader_in_clear_text_gets_none(self, vault: FakeVault) -> None:
        vault.on("GET", "sys/leader", {"ha_enabled": True, "is_self": False, "leader_address": "http://vault-2:8200"})
        with pytest.raises(VaultConfigError, match="http://vault-2:8200: the token would travel in clear") as caught:
            vault.client(token=TOKEN).at_leader()
        assert "api_addr" in str(caught.value)
        assert len(vault.seen) == 1

    def test_clear_text_to_clear_text_is_the_operators_choice(self, vault: FakeVault) -> None:
        vault.on("GET", "sys/leader", {"ha_enabled": True, "is_self": False, "leader_address": "http://vault-2:8200"})
        assert vault.client("http://vault-1:8200").at_leader().connection.url == "http://vault-2:8200"

    def test_the_leader_is_spoken_to_as_the_same_user(self, vault: FakeVault, tmp_path: Path) -> None:
        ca = tmp_path / "ca.pem"
        ca.touch()
        vault.on("GET", "sys/leader", {"ha_enabled": True, "is_self": False, "leader_address": OTHER})
        vault.on("GET", "x", {}, at=OTHER)
        leader = vault.client(token=TOKEN, ca_cert=str(ca), namespace="team").at_leader()
        leader.request("GET", "x")
        seen = vault.seen[-1]
        assert (seen.node, seen.token, seen.options["verify"]) == (OTHER, TOKEN, str(ca))
        assert seen.headers["X-Vault-Namespace"] == "team"

    @pytest.mark.parametrize(
        "said",
        [
            {"ha_enabled": True, "is_self": True, "leader_address": OTHER},
            {"ha_enabled": False, "is_self": False, "leader_address": ""},
            {"ha_enabled": True, "is_self": False, "leader_address": URL + "/"},
        ],
    )
    def test_the_node_itself_may_be_the_leader(self, vault: FakeVault, said: dict[str, Any]) -> None:
        vault.on("GET", "sys/leader", said)
        client = vault.client()
        assert client.at_leader() is client

    def test_no_leader(self, vault: FakeVault) -> None:
        vault.on("GET", "sys/leader", {"ha_enabled": True, "is_self": False, "leader_address": ""})
        with pytest.raises(VaultUnreachableError, match="knows of no leader"):
            vault.client().at_leader()

    def test_a_leader_whose_address_is_redacted_is_known_by_its_redirect(self, vault: FakeVault) -> None:
        node(vault, URL, 429, leader=OTHER)
        redact(vault, URL, OTHER)
        assert vault.client(token=TOKEN).at_leader().connection.url == OTHER
        [probe] = vault.sent("GET", "sys/internal/ui/mounts")
        assert probe.headers["X-Vault-No-Request-Forwarding"] == "true"
        assert vault.tokens_at(OTHER) == set()

    def test_a_redirect_to_clear_text_gets_no_token(self, vault: FakeVault) -> None:
        node(vault, URL, 429, leader=OTHER)
        redact(vault, URL, "http://vault-2:8200")
        with pytest.raises(VaultConfigError, match="would travel in clear"):
            vault.client(token=TOKEN).at_leader()

    @pytest.mark.parametrize("token", ["hvs.secret\n", "hvs.se cret", "hvs.secrét", "hvs.secret\x00"])
    def test_a_token_that_cannot_be_sent_is_not_quoted(self, vault: FakeVault, token: str) -> None:
        with pytest.raises(VaultConfigError) as caught:
            vault.client(token=token)
        assert "secr" not in str(caught.value)

    def test_none_before_login(self, vault: FakeVault, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VAULT_TOKEN", "hvs.ofTheEnvironment")
        vault.on("GET", "x", {})
        client = vault.client()
        client.request("GET", "x")
        assert client.token is None
        assert vault.seen[0].token is None


class TestRepeating:
    @pytest.mark.parametrize("status", [412, 429, 502, 503, 504])
    def test_what_passes(self, vault: FakeVault, clock: Clock, status: int) -> None:
        vault.on("GET", "x", errors("busy"), status).on("GET", "x", b"<html>", status).on("GET", "x", {"data": 1})
        assert retrying(vault, clock).request("GET", "x") == {"data": 1}
        assert clock.slept == [0.4, 0.8]

    @pytest.mark.parametrize("method", ["GET", "LIST"])
    def test_a_lost_connection_when_it_only_reads(self, vault: FakeVault, clock: Clock, method: str) -> None:
        vault.on(method, "x", raises=reset()).on(method, "x", raises=tls_broken()).on(method, "x", {"data": 1})
        assert retrying(vault, clock).request(method, "x") == {"data": 1}

    def test_only_so_often(self, vault: FakeVault, clock: Clock) -> None:
        vault.on("GET", "x", errors("busy"), 502)
        with pytest.raises(VaultApiError):
            retrying(vault, clock, retries=3).request("GET", "x")
        assert len(vault.seen) == 4
        vault.on("GET", "y", raises=reset())
        with pytest.raises(VaultUnreachableError):
            retrying(vault, clock, retries=0).request("GET", "y")
        assert len(vault.sent("GET", "y")) == 1

    @pytest.mark.parametrize(
        ("status", "said"),
        [(400, "no"), (403, "permission denied"), (404, ""), (500, "boom"), (503, "Vault is sealed")],
    )
    def test_what_does_not_pass(self, vault: FakeVault, clock: Clock, status: int, said: str) -> None:
        vault.on("GET", "x", errors(said), status)
        with pytest.raises(VaultError):
            retrying(vault, clock).request("GET", "x")
        assert len(vault.seen) == 1

    @pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
    @pytest.mark.parametrize("failure", [reset, silent, tls_broken])
    def test_never_a_write_that_may_have_arrived(
        self, vault: FakeVault, clock: Clock, method: str, failure: Any
    ) -> None:
        vault.on(method, "x", raises=failure()).on(method, "x", {})
        with pytest.raises(VaultUnreachableError):
            retrying(vault, clock).request(method, "x", json={})
        assert len(vault.seen) == 1

    @pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
    @pytest.mark.parametrize("status", [412, 429, 502, 503, 504])
    def test_nor_one_that_was_answered(self, vault: FakeVault, clock: Clock, method: str, status: int) -> None:
        vault.on(method, "x", errors("busy"), status).on(method, "x", {})
        with pytest.raises(VaultApiError):
            retrying(vault, clock).request(method, "x", json={})
        assert len(vault.seen) == 1

    def test_nor_a_restore(self, vault: FakeVault, clock: Clock) -> None:
        vault.on("POST", "x", raises=reset())
        with pytest.raises(VaultUnreachableError):
            retrying(vault, clock).upload("x", io.BytesIO(b"snapshot"), 1.0)
        assert [seen.body for seen in vault.seen] == [b"snapshot"]

    @pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
    def test_what_was_never_sent(self, vault: FakeVault, clock: Clock, method: str) -> None:
        vault.on(method, "x", raises=refused()).on(method, "x", raises=refused()).on(method, "x", {"data": 1})
        assert retrying(vault, clock).request(method, "x") == {"data": 1}

    def test_no_timeout(self, vault: FakeVault, clock: Clock) -> None:
        vault.on("GET", "x", raises=silent()).on("GET", "x", {})
        with pytest.raises(VaultUnreachableError, match="no answer for 30 s"):
            retrying(vault, clock).request("GET", "x")
        assert len(vault.seen) == 1


class TestAnswers:
    def test_nothing_is_an_empty_object(self, vault: FakeVault) -> None:
        vault.on("POST", "x", status=204)
        assert vault.client().request("POST", "x") == {}

    @pytest.mark.parametrize("body", [b"<html>Welcome</html>", [1, 2]])
    def test_a_page_of_something_else(self, vault: FakeVault, body: Any) -> None:
        vault.on("GET", "x", body)
        with pytest.raises(VaultUnreachableError, match="not Vault's JSON"):
            vault.client().request("GET", "x")

    @pytest.mark.parametrize("code", [200, 429, 472, 473, 474, 501, 503, 530, 404])
    def test_a_status_that_is_the_answer(self, vault: FakeVault, clock: Clock, code: int) -> None:
        vault.on("GET", "sys/health", {"version": "1.21.0"}, code)
        assert retrying(vault, clock).status("sys/health") == (code, {"version": "1.21.0"})
        assert len(vault.seen) == 1

    def test_a_status_without_json(self, vault: FakeVault) -> None:
        vault.on("GET", "sys/health", b"<html>", 502)
        assert vault.client().status("sys/health") == (502, {})

    def test_clear_text_on_a_tls_port_is_no_status(self, vault: FakeVault) -> None:
        vault.on("GET", "sys/health", b"Client sent an HTTP request to an HTTPS server.\n", 400)
        with pytest.raises(VaultConfigError, match="Use https:// in url"):
            vault.client("http://vault-1:8200").status("sys/health")

    @pytest.mark.parametrize(("status", "said"), [(404, ""), (403, "permission denied"), (503, "Vault is sealed")])
    def test_optional_is_none_where_it_is_refused(self, vault: FakeVault, status: int, said: str) -> None:
        vault.on("GET", "x", errors(said), status)
        assert vault.client().optional("x") is None

    def test_optional_does_not_hide_a_dead_server(self, vault: FakeVault) -> None:
        vault.on("GET", "x", raises=refused()).on("GET", "y", {"data": 1})
        with pytest.raises(VaultUnreachableError):
            vault.client().optional("x")
        assert vault.client().optional("y") == {"data": 1}

    def test_which_error_it_is(self, vault: FakeVault) -> None:
        vault.on("GET", "x", errors("Vault is sealed"), 503).on("GET", "y", errors("permission denied"), 403)
        with pytest.raises(VaultSealedError):
            vault.client().request("GET", "x")
        with pytest.raises(VaultPermissionError):
            vault.client().request("GET", "y")


class TestStreams:
    def test_arrives_as_it_was_sent(self, vault: FakeVault) -> None:
        # The gzip that is the snapshot's own format.
        vault.on("GET", "x", Stream([b"\x1f\x8babc", b"def"]), headers={"Content-Type": "application/gzip"})
        with vault.client(timeout=30.0, connect_timeout=4.0).download("x", 600.0) as chunks:
            assert b"".join(chunks) == b"\x1f\x8babcdef"
        assert vault.seen[0].options["stream"] is True
        assert vault.seen[0].options["timeout"] == (4.0, 600.0)
        assert vault.seen[0].headers["Accept-Encoding"] == "identity"

    @pytest.mark.parametrize("encoding", ["gzip", "X-GZip", "deflate"])
    def test_less_what_a_proxy_has_encoded(self, vault: FakeVault, encoding: str) -> None:
        snapshot = gzip.compress(os.urandom(1000)) + bytes(3 * CHUNK)
        sent = zlib.compress(snapshot) if encoding == "deflate" else gzip.compress(snapshot)
        pieces: list[bytes | BaseException] = [sent[:1], *(sent[at : at + 100] for at in range(1, len(sent), 100))]
        vault.on("GET", "x", Stream(pieces), headers={"Content-Encoding": encoding})
        with vault.client().download("x", 600.0) as chunks:
            found = list(chunks)
        assert b"".join(found) == snapshot
        assert max(map(len, found)) <= CHUNK

    @pytest.mark.parametrize(
        ("encoding", "body", "kind", "said"),
        [
            ("br", b"abc", VaultConfigError, "Content-Encoding br, which cannot be decoded here"),
            ("gzip, gzip", b"abc", VaultConfigError, "leave its answers as they are"),
            ("gzip", b"no gzip", VaultUnreachableError, "and is damaged"),
            ("gzip", gzip.compress(b"abc" * 999, mtime=0)[:-9], VaultUnreachableError, "and ended early"),
        ],
    )
    def test_in_an_encoding_that_cannot_be_undone(
        self, vault: FakeVault, encoding: str, body: bytes, kind: type[Exception], said: str
    ) -> None:
        vault.on("GET", "x", Stream([body]), headers={"Content-Encoding": encoding})
        with vault.client().download("x", 1.0) as chunks, pytest.raises(kind, match=said):
            list(chunks)

    def test_an_upload_has_no_encoding(self, vault: FakeVault) -> None:
        vault.on("POST", "x", {})
        vault.client().upload("x", io.BytesIO(b"snapshot"), 1.0)
        assert not [name for name in vault.seen[0].headers if "encoding" in name.lower()]

    @pytest.mark.parametrize("broken", [ProtocolError("Connection broken: IncompleteRead"), OSError("broke"), reset()])
    def test_that_breaks_off(self, vault: FakeVault, broken: BaseException) -> None:
        vault.on("GET", "x", Stream([b"abc", broken]))
        with vault.client().download("x", 1.0) as chunks:
            assert next(chunks) == b"abc"
            with pytest.raises(VaultUnreachableError, match="GET x at https://vault-1:8200: the connection broke off"):
                next(chunks)

    def test_that_is_an_error_and_breaks_off(self, vault: FakeVault) -> None:
        vault.on("GET", "x", Stream([b'{"err', ProtocolError("Connection broken")]), 500)
        with pytest.raises(VaultUnreachableError, match="broke off"), vault.client().download("x", 1.0):
            pass

    def test_a_bug_stays_a_traceback(self, vault: FakeVault) -> None:
        vault.on("GET", "x", Stream([ValueError("a bug")]))
        with vault.client().download("x", 1.0) as chunks, pytest.raises(ValueError, match="a bug"):
            next(chunks)

    def test_its_timeout_is_in_the_message(self, vault: FakeVault) -> None:
        vault.on("GET", "x", raises=silent())
        with pytest.raises(VaultUnreachableError, match="no answer for 600 s"), vault.client().download("x", 600.0):
            pass


class TestLogout:
    def test_gives_back_what_a_login_made(self, vault: FakeVault) -> None:
        vault.on("POST", "auth/token/revoke-self", errors("permission denied"), 403)
        client = vault.client(token=TOKEN)
        client.owns_token = True
        client.logout()
        assert (client.token, client.owns_token) == (None, False)
        assert vault.seen[0].token == TOKEN

    def test_leaves_the_operators_token_alone(self, vault: FakeVault) -> None:
        client = vault.client(token=TOKEN)
        client.logout()
        assert client.token == TOKEN
        assert vault.seen == []


class TestProxies:
    def message(self, client: VaultClient) -> str:
        with pytest.raises(VaultError) as caught:
            client.request("GET", "sys/leader")
        return str(caught.value)

    @pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "ALL_PROXY"])
    def test_one_of_the_environment_is_named_without_its_password(
        self, vault: FakeVault, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setenv(name, "http://user:pass@w@proxy:3128")
        vault.on("GET", "sys/leader", raises=refused())
        said = self.message(vault.client())
        assert said.startswith(
            f"GET sys/leader at {URL} through the proxy http://proxy:3128 (of {name}): the proxy refu"
        )
        assert "pass" not in said
        assert "Vault is not running" not in said

    def test_one_of_the_option(self, vault: FakeVault) -> None:
        vault.on("GET", "sys/leader", raises=silent())
        client = vault.client(proxies={"https": "proxy:3128"})
        assert f"{URL} through the proxy proxy:3128 (of the option proxies): connected, then" in self.message(client)
        vault.clear("GET", "sys/leader").on("GET", "sys/leader", b"<html>", 407)
        assert "the proxy asks for a login (HTTP 407)" in self.message(client)
        vault.clear("GET", "sys/leader").on("GET", "sys/leader", b"<html>")
        assert "through the proxy proxy:3128 (of the option proxies) was answered with" in self.message(client)

    @pytest.mark.parametrize("options", [{"proxies": {}}, {}])
    def test_none_is_not_named(
        self, vault: FakeVault, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
    ) -> None:
        monkeypatch.setenv("https_proxy", "http://proxy:3128")
        if not options:
            monkeypatch.setenv("no_proxy", "vault-1")
        vault.on("GET", "sys/leader", raises=refused())
        assert "proxy" not in self.message(vault.client(**options))
