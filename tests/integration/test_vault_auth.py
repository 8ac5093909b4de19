# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every login that a real Vault can take without a cloud or a directory, through a module."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from integration.run_ansible import Ansible, Result, task
from lab import Lab
from lab.pki import Authority, write_private
from lab.processes import wait_for
from lab.seed import Seed
from lab.vault import VaultCluster

WRONG_TOKEN = "hvs.CAESIJnot-a-token-of-this-cluster"


@pytest.fixture(scope="module")
def signing_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def logins(lab: Lab, cluster: VaultCluster, seeded: Seed, signing_key: ec.EllipticCurvePrivateKey) -> None:
    """The shared cluster takes JSON Web Tokens and client certificates of this lab as well."""
    client = cluster.client()
    public = signing_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    client.sys.enable_auth_method("jwt")
    client.auth.jwt.configure(jwt_validation_pubkeys=[public.decode()])
    client.auth.jwt.create_role(
        "recovery",
        role_type="jwt",
        user_claim="sub",
        allowed_redirect_uris=[],
        bound_audiences=["vault"],
        token_policies=["recovery-verify"],
    )
    for mount in ("cert", "other-cert"):
        client.sys.enable_auth_method("cert", path=mount)
        client.write_data(
            f"auth/{mount}/certs/operators",
            data={"certificate": lab.authority.ca_file.read_text(), "token_policies": ["recovery-verify"]},
        )


def _token(cluster: VaultCluster, policy: str = "recovery-verify", **options: Any) -> str:
    return str(cluster.client().auth.token.create(policies=[policy], **options)["auth"]["client_token"])


def _signed(key: ec.EllipticCurvePrivateKey, *, audience: str = "vault", seconds: float = 600) -> str:
    """A JSON Web Token (RFC 7519) with ES256 (RFC 7518, 3.4)."""

    def encode(part: bytes) -> str:
        return base64.urlsafe_b64encode(part).rstrip(b"=").decode()

    claims = {"sub": "night-shift", "aud": audience, "iat": int(time.time()) - 900, "exp": int(time.time() + seconds)}
    signed = ".".join(encode(json.dumps(part).encode()) for part in ({"alg": "ES256", "typ": "JWT"}, claims))
    numbers = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{encode(b''.join(number.to_bytes(32, 'big') for number in numbers))}"


def _accessors(cluster: VaultCluster) -> set[str]:
    return set(cluster.client().list("auth/token/accessors")["data"]["keys"])


def _read(ansible: Ansible, cluster: VaultCluster, *logins: dict[str, Any], env: dict[str, str] | None = None) -> Any:
    """Read the canary with each of these logins."""
    tasks = [task("vault_secret_info", path="secret/dr/canary", **login) for login in logins]
    return ansible.run(tasks, env=env, url=cluster.addresses[1], ca_cert=str(cluster.ca_file))


def _assert_readable(results: list[Result]) -> None:
    for result in results:
        assert result.get("readable") is True, result


@pytest.mark.vault
def test_the_token_and_where_it_comes_from(
    ansible: Ansible, cluster: VaultCluster, seeded: Seed, tmp_path: Path
) -> None:
    token = _token(cluster)
    ansible.secrets += [token, WRONG_TOKEN]
    write_private(tmp_path / "night", token.encode() + b"\n")
    write_private(tmp_path / ".vault-token", token.encode())
    write_private(tmp_path / "wrong", WRONG_TOKEN.encode())
    write_private(tmp_path / "empty", b"\n")
    write_private(ansible.home / ".vault-token", token.encode())
    write_private(ansible.home / "other", WRONG_TOKEN.encode())
    good = {"token": token}, {"token_path": str(tmp_path), "token_file": "night"}, {"token_path": str(tmp_path)}
    _assert_readable(_read(ansible, cluster, *good, env={"VAULT_TOKEN": WRONG_TOKEN}))
    named, from_home, environment = _read(
        ansible, cluster, {"token_path": str(tmp_path), "token_file": "wrong"}, {"token_file": "other"}, {},
        env={"VAULT_TOKEN": token},
    )  # fmt: skip
    assert [named["error_type"], from_home["error_type"]] == ["VaultAuthError"] * 2
    _assert_readable([environment])
    home, empty, nowhere = _read(
        ansible,
        cluster,
        {},
        {"token_path": str(tmp_path), "token_file": "empty"},
        {"token_path": str(tmp_path / "no"), "token_file": "such"},
    )
    _assert_readable([home])
    assert str(tmp_path / "empty") in empty["msg"]
    assert str(tmp_path / "no" / "such") in nowhere["msg"]
    (ansible.home / ".vault-token").unlink()
    (none,) = _read(ansible, cluster, {})
    assert none["error_type"] == "VaultConfigError"
    assert "vault login" in none["msg"]


@pytest.mark.both
def test_every_login_is_taken_and_given_back(
    ansible: Ansible,
    lab: Lab,
    cluster: VaultCluster,
    seeded: Seed,
    logins: None,
    signing_key: ec.EllipticCurvePrivateKey,
) -> None:
    public, private = map(str, lab.authority.issue("night-shift"))
    certificate = {"auth_method": "cert", "cert_auth_public_key": public, "cert_auth_private_key": private}
    role = seeded.recovery
    before = _accessors(cluster)
    results = _read(
        ansible,
        cluster,
        {"auth_method": "approle", "role_id": role.role_id, "secret_id": role.secret_id},
        {"auth_method": "userpass", "username": seeded.user, "password": seeded.password},
        {"auth_method": "jwt", "role_id": "recovery", "jwt": _signed(signing_key)},
        certificate,
        {**certificate, "role_id": "operators", "mount_point": "other-cert"},
    )
    _assert_readable(results)
    # A revoked token's accessor goes a moment after the token.
    wait_for("no token of a login is left", lambda: _accessors(cluster) <= before)


@pytest.mark.both
def test_every_login_can_be_refused(
    ansible: Ansible,
    lab: Lab,
    cluster: VaultCluster,
    seeded: Seed,
    logins: None,
    signing_key: ec.EllipticCurvePrivateKey,
    tmp_path: Path,
) -> None:
    stranger = Authority(tmp_path / "strangers", "custodes lab strangers").issue("stranger")
    certificate = {"auth_method": "cert", "cert_auth_private_key": str(stranger[1])}
    jwt = {"auth_method": "jwt", "role_id": "recovery"}
    *refused, missing, no_file = _read(
        ansible,
        cluster,
        {"auth_method": "approle", "role_id": seeded.recovery.role_id, "secret_id": "no-such-secret-id"},
        {"auth_method": "approle", "role_id": "no-such-role", "secret_id": seeded.recovery.secret_id},
        {"auth_method": "userpass", "username": seeded.user, "password": "not-the-password"},
        {**jwt, "jwt": _signed(ec.generate_private_key(ec.SECP256R1()))},
        {**jwt, "jwt": _signed(signing_key, audience="somebody-else")},
        {**jwt, "jwt": _signed(signing_key, seconds=-600)},
        {**certificate, "cert_auth_public_key": str(stranger[0])},
        {"auth_method": "ldap", "username": seeded.user, "password": seeded.password},
        {"auth_method": "userpass", "username": seeded.user},
        {**certificate, "cert_auth_public_key": str(tmp_path / "no-such.pem")},
    )
    methods = ["approle", "approle", "userpass", "jwt", "jwt", "jwt", "cert", "ldap"]
    for method, result in zip(methods, refused, strict=True):
        assert result["error_type"] == "VaultAuthError", result
        assert f"auth_method {method} (mount {method}) was refused" in result["msg"]
        assert cluster.addresses[1] in result["msg"]
        assert "Check the credentials" in result["msg"]
    assert missing["error_type"] == "VaultConfigError"
    assert "auth_method userpass needs password" in missing["msg"]
    assert no_file["error_type"] == "VaultConfigError"
    assert str(tmp_path / "no-such.pem") in no_file["msg"]


@pytest.mark.vault
def test_tokens_that_are_wrong_expired_or_without_a_policy(
    ansible: Ansible, cluster: VaultCluster, seeded: Seed, tmp_path: Path
) -> None:
    expired = _token(cluster, ttl="1s")
    wait_for(
        "the token has expired",
        lambda: cluster.leader().request("GET", "auth/token/lookup-self", token=expired).status_code == 403,
    )
    default = _token(cluster, "default")
    tokens = [WRONG_TOKEN, expired, default]
    results = ansible.run(
        [task("vault_raft_snapshot", dest=str(tmp_path / "x.snap"), token=token) for token in tokens]
        + [task("vault_secret_info", path="secret/dr/canary", token=token) for token in tokens],
        url=cluster.addresses[0],
        ca_cert=str(cluster.ca_file),
    )
    for result in (*results[:2], *results[3:5]):
        assert result["error_type"] == "VaultAuthError", result
        assert "Log in again" in result["msg"]
    assert results[2]["error_type"] == "VaultPermissionError"
    assert "policies do not allow this" in results[2]["msg"]
    assert results[5]["secrets"][0]["readable"] is False
    assert "policies do not allow this" in results[5]["secrets"][0]["problem"]
    for result in results[:5]:
        assert "127.0.0.1" in result["msg"]
    assert not list(tmp_path.glob("*.snap*"))
