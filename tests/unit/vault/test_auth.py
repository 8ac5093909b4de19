# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a token comes from, what each method needs and sends, and what a refused login says."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.module import AUTH_METHODS
from ansible_collections.custodes.security_dr.plugins.module_utils.vault import auth
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import (
    VaultAuthError,
    VaultConfigError,
    VaultSealedError,
    VaultUnreachableError,
)
from unit.vault.fake import FakeVault, errors, refused

LOGGED_IN = {"auth": {"client_token": "hvs.ofTheLogin", "lease_duration": 3600}}
SECRET = "hunter2hunter2"

APPROLE = {"role_id": "role-1", "secret_id": SECRET}
PASSWORD = {"username": "bob", "password": SECRET}
AWS = {"aws_access_key": "AKIAEXAMPLE", "aws_secret_key": SECRET, "role_id": "dr"}

LOGINS = {
    "approle": (APPROLE, "auth/approle/login", APPROLE),
    "kubernetes": ({"role_id": "dr", "jwt": SECRET}, "auth/kubernetes/login", {"role": "dr", "jwt": SECRET}),
    "jwt": ({"role_id": "dr", "jwt": SECRET}, "auth/jwt/login", {"role": "dr", "jwt": SECRET}),
    "userpass": (PASSWORD, "auth/userpass/login/bob", {"password": SECRET}),
    "ldap": (PASSWORD, "auth/ldap/login/bob", {"password": SECRET}),
    "cert": (
        {"cert_auth_public_key": "c.pem", "cert_auth_private_key": "k.pem", "role_id": "dr"},
        "auth/cert/login",
        {"name": "dr"},
    ),
    "aws_iam": (AWS, "auth/aws/login", None),
}
REQUIRED = {
    "approle": ["role_id"],
    "kubernetes": ["role_id"],
    "jwt": ["role_id", "jwt"],
    "userpass": ["username", "password"],
    "ldap": ["username", "password"],
    "cert": ["cert_auth_public_key", "cert_auth_private_key"],
}
each_login = pytest.mark.parametrize("method", list(LOGINS))


class TestToken:
    """Each source is there, and beats those after it."""

    def sources(self, home: Path, folder: Path) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
        (home / ".vault-token").write_text("hvs.home\n")
        (home / "other").write_text("hvs.homeOther\n")
        (folder / ".vault-token").write_text(" hvs.path\n")
        (folder / "file").write_text("hvs.file")
        environment = {"VAULT_TOKEN": "hvs.environment"}
        where = {"token_path": str(folder), "token_file": "file"}
        return {
            "hvs.option": ({"token": "hvs.option", **where}, environment),
            "hvs.file": (where, environment),
            "hvs.path": ({"token_path": str(folder)}, environment),
            "hvs.homeOther": ({"token_file": "other"}, environment),
            "hvs.environment": ({}, environment),
            "hvs.home": ({}, {}),
        }

    @pytest.mark.parametrize(
        "expected", ["hvs.option", "hvs.file", "hvs.path", "hvs.homeOther", "hvs.environment", "hvs.home"]
    )
    def test_precedence(self, vault: FakeVault, clean: Path, tmp_path: Path, expected: str) -> None:
        options, environment = self.sources(clean, tmp_path)[expected]
        client = vault.client()
        auth.authenticate(client, {"auth_method": "token", **options}, environment)
        assert client.token == expected
        assert client.owns_token is False
        assert vault.seen == []

    def test_none(self, clean: Path) -> None:
        assert auth.find_token({}, {}) is None
        auth.validate({"auth_method": "token"}, {}, required=False)
        with pytest.raises(VaultConfigError, match="No token: neither the option token"):
            auth.validate({"auth_method": "token"}, {})

    @pytest.mark.parametrize(
        ("content", "said"),
        [(None, "No such file or directory"), (b"", "is empty"), (b" \n", "is empty"), (b"\xff", "Cannot read")],
    )
    def test_a_named_file_that_gives_none(self, tmp_path: Path, content: bytes | None, said: str) -> None:
        if content is not None:
            (tmp_path / "token").write_bytes(content)
        with pytest.raises(VaultConfigError, match=f"{tmp_path}/token.*{said}|{said}.*{tmp_path}/token"):
            auth.find_token({"token_path": str(tmp_path), "token_file": "token"}, {"VAULT_TOKEN": "hvs.t"})


@pytest.mark.parametrize(("method", "name"), [(method, name) for method, names in REQUIRED.items() for name in names])
@pytest.mark.parametrize("value", [None, ""])
def test_an_option_that_is_missing_is_named(vault: FakeVault, method: str, name: str, value: str | None) -> None:
    options = {**LOGINS[method][0], "auth_method": method, name: value}
    with pytest.raises(VaultConfigError, match=f"auth_method {method} needs {name}"):
        auth.authenticate(vault.client(), options, {})
    assert vault.seen == []


def test_all_that_are_missing_are_named() -> None:
    with pytest.raises(VaultConfigError, match="auth_method ldap needs username and password"):
        auth.validate({"auth_method": "ldap"}, {})


def test_every_method_is_tested() -> None:
    assert set(LOGINS) == set(auth.METHODS)


def test_every_method_is_a_choice() -> None:
    assert ("token", *auth.METHODS) == AUTH_METHODS


class TestLogin:
    @each_login
    def test_sends_what_vault_documents(self, vault: FakeVault, method: str) -> None:
        options, path, body = LOGINS[method]
        vault.on("POST", path, LOGGED_IN)
        client = vault.client()
        auth.authenticate(client, {"auth_method": method, **options}, {"VAULT_TOKEN": "hvs.notThisOne"})
        (seen,) = vault.seen
        assert seen.token is None
        if body is not None:
            assert {name: value for name, value in seen.json.items() if value is not None} == body
        assert (client.token, client.owns_token) == ("hvs.ofTheLogin", True)

    @each_login
    def test_at_another_mount(self, vault: FakeVault, method: str) -> None:
        options, path, _body = LOGINS[method]
        _auth, mount, rest = path.split("/", 2)
        vault.on("POST", f"auth/{mount}-2/{rest}", LOGGED_IN)
        client = vault.client()
        auth.authenticate(client, {"auth_method": method, **options, "mount_point": f"{mount}-2"}, {})
        assert client.token == "hvs.ofTheLogin"

    @each_login
    @pytest.mark.parametrize(("status", "said"), [(400, "invalid credentials"), (403, "permission denied")])
    def test_that_is_refused_names_method_and_mount_and_no_secret(
        self, vault: FakeVault, method: str, status: int, said: str
    ) -> None:
        options, path, _body = LOGINS[method]
        vault.on("POST", path, errors(said), status)
        client = vault.client()
        with pytest.raises(VaultAuthError) as caught:
            auth.authenticate(client, {"auth_method": method, **options}, {})
        text = str(caught.value)
        assert f"auth_method {method} (mount {path.split('/')[1]}) was refused" in text
        assert said in text
        assert SECRET not in text
        assert (client.token, client.owns_token) == (None, False)
        assert len(vault.seen) == 1

    def test_a_server_that_cannot_answer_has_refused_nothing(self, vault: FakeVault) -> None:
        vault.on("POST", "auth/approle/login", errors("Vault is sealed"), 503)
        vault.on("POST", "auth/approle/login", raises=refused())
        for kind in (VaultSealedError, VaultUnreachableError):
            with pytest.raises(kind):
                auth.authenticate(vault.client(), {"auth_method": "approle", **APPROLE}, {})

    @pytest.mark.parametrize(
        "answer", [b"<html>Welcome</html>", {}, {"auth": None}, {"auth": {"client_token": "", "mfa_requirement": {}}}]
    )
    @pytest.mark.parametrize("method", ["approle", "cert"])
    def test_that_gives_no_token(self, vault: FakeVault, method: str, answer: Any) -> None:
        options, path, _body = LOGINS[method]
        vault.on("POST", path, answer)
        client = vault.client()
        with pytest.raises(VaultAuthError, match="answered with no token"):
            auth.authenticate(client, {"auth_method": method, **options}, {})
        assert client.owns_token is False


class TestKubernetes:
    def test_the_pods_own_token(self, vault: FakeVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "token"
        path.write_text("ey.pod\n")
        monkeypatch.setattr(auth, "KUBERNETES_JWT", str(path))
        vault.on("POST", "auth/kubernetes/login", LOGGED_IN)
        auth.authenticate(vault.client(), {"auth_method": "kubernetes", "role_id": "dr"}, {})
        assert vault.seen[0].json == {"role": "dr", "jwt": "ey.pod"}

    def test_outside_of_a_pod(self, vault: FakeVault, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(auth, "KUBERNETES_JWT", "/no/token")
        with pytest.raises(VaultConfigError, match=r"service account token of this pod \(or give jwt\) at /no/token"):
            auth.authenticate(vault.client(), {"auth_method": "kubernetes", "role_id": "dr"}, {})


class TestAws:
    def headers(self, vault: FakeVault, **options: str) -> str:
        vault.on("POST", "auth/aws/login", LOGGED_IN)
        auth.authenticate(vault.client(), {"auth_method": "aws_iam", **options}, {})
        return json.dumps(json.loads(base64.b64decode(vault.seen[-1].json["iam_request_headers"])))

    def test_signs_with_the_keys_given_and_sends_no_secret(self, vault: FakeVault) -> None:
        headers = self.headers(
            vault, **AWS, aws_security_token="session", aws_iam_server_id="vault.example.com", region="eu-west-1"
        )
        assert "AKIAEXAMPLE/" in headers
        assert "/eu-west-1/sts/" in headers
        assert "vault.example.com" in headers
        assert '"session"' in headers
        assert vault.seen[-1].json["role"] == "dr"
        assert SECRET not in json.dumps(vault.seen[-1].json) + headers

    def test_else_with_what_boto3_finds(self, vault: FakeVault, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        assert "AKIAENVIRONMENT/" in self.headers(vault)

    def test_none_found(self, vault: FakeVault, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("boto3.session.Session.get_credentials", lambda _self: None)
        with pytest.raises(VaultConfigError, match="found no AWS credentials"):
            self.headers(vault)
