# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which addresses are taken, and that the operator's CA, proxies and limits are the ones in force."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import UPLOAD_STALL, Connection
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import VaultConfigError
from unit.vault.fake import OTHER, URL, FakeVault


@pytest.mark.parametrize(
    "url",
    [
        "",
        "vault-1:8200",
        "//vault-1:8200",
        "https://",
        "https://:8200",
        "ftp://vault-1:8200",
        "https://vault-1:0",
        "https://vault-1:99999",
        "https://vault-1:port",
        "https://[::1:8200",
        "https://vault-1:8200?x=1",
        "https://vault-1:8200#x",
    ],
)
def test_no_address(url: str) -> None:
    with pytest.raises(VaultConfigError, match="https://HOST:PORT"):
        Connection(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://root:hunter2@vault-1:8200",
        "https://:hunter2@vault-1:8200",
        "https://hunter2@vault-1:8200",
        "https://root:hunter2@vault-1:99999",
        "https://root:hunter2@",
        "ftp://root:hunter2@vault-1",
        "root:hunter2@vault-1:8200",
        "https://vault-1:8200?token=hunter2",
    ],
)
def test_a_password_in_the_address_is_not_quoted(url: str) -> None:
    with pytest.raises(VaultConfigError) as caught:
        Connection(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", [URL, "http://127.0.0.1:8200", "https://[::1]:8200", "https://vault/prefix"])
def test_an_address(url: str) -> None:
    assert Connection(url).url == url


def test_a_ca_that_is_not_there() -> None:
    with pytest.raises(VaultConfigError, match=r"CA bundle /no/ca\.pem does not exist .* VAULT_CACERT"):
        Connection(URL, ca_cert="/no/ca.pem")


def test_a_client_certificate_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").touch()
    with pytest.raises(VaultConfigError, match=r"/no/key\.pem cannot be read"):
        Connection(URL, client_cert=(str(tmp_path / "cert.pem"), "/no/key.pem"))


def test_proxies_are_not_shown() -> None:
    assert "hunter2" not in repr(Connection(URL, proxies={"https": "http://me:hunter2@proxy:3128"}))


def options(vault: FakeVault, **given: Any) -> dict[str, Any]:
    vault.on("GET", "x", {})
    vault.client(**given).request("GET", "x")
    return vault.seen[-1].options


class TestTrust:
    def test_the_operators_ca_wins_over_the_environment(
        self, vault: FakeVault, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.setenv(name, "/etc/other.pem")
        ca = tmp_path / "ca.pem"
        ca.touch()
        assert options(vault, ca_cert=str(ca))["verify"] == str(ca)
        # With it, requests looks at the environment again, for each request.
        assert vault.sessions[-1].trust_env is False

    def test_the_environments_ca_wins_over_the_systems(self, vault: FakeVault, monkeypatch: pytest.MonkeyPatch) -> None:
        assert options(vault)["verify"] is True
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/other.pem")
        assert options(vault)["verify"] == "/etc/other.pem"

    def test_no_trust_is_needed_only_by_the_operators_word(
        self, vault: FakeVault, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/other.pem")
        assert options(vault, validate_certs=False)["verify"] is False

    def test_the_client_certificate_is_presented(self, vault: FakeVault, tmp_path: Path) -> None:
        pair = (str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
        for name in pair:
            Path(name).touch()
        assert options(vault, client_cert=pair)["cert"] == pair


class TestProxies:
    def test_of_the_environment(self, vault: FakeVault, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("https_proxy", "http://proxy:3128")
        monkeypatch.setenv("no_proxy", "vault-2")
        assert options(vault)["proxies"]["https"] == "http://proxy:3128"
        assert not options(vault, url=OTHER)["proxies"]

    @pytest.mark.parametrize("given", [{"https": "http://mine:3128"}, {}])
    def test_of_the_operator(self, vault: FakeVault, monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
        monkeypatch.setenv("https_proxy", "http://proxy:3128")
        assert (options(vault, proxies=given)["proxies"] or {}) == given


def test_connect_and_read_have_limits_of_their_own(vault: FakeVault) -> None:
    assert options(vault, connect_timeout=3.0, timeout=20.0)["timeout"] == (3.0, 20.0)


def test_a_slow_taker_of_an_upload_is_not_cut_off_by_the_limit_for_connecting(vault: FakeVault) -> None:
    vault.on("POST", "x", status=204)
    vault.client(connect_timeout=1.0).upload("x", io.BytesIO(b"snapshot"), 600.0)
    assert vault.seen[0].options["timeout"] == (UPLOAD_STALL, 600.0)


def test_the_namespace_goes_along(vault: FakeVault) -> None:
    options(vault, namespace="admin/team")
    assert vault.seen[-1].headers["X-Vault-Namespace"] == "admin/team"
    options(vault)
    assert "X-Vault-Namespace" not in vault.seen[-1].headers
