# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vault's auth methods: what each needs, and its login through hvac. Source: Vault's API documentation."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Optional

from .client import VaultClient
from .errors import VaultApiError, VaultAuthError, VaultConfigError, VaultPermissionError

KUBERNETES_JWT = "/var/run/secrets/kubernetes.io/serviceaccount/token"
"""Where Kubernetes mounts a pod's service account token."""

Options = Mapping[str, Any]


def _mount(options: Options) -> dict[str, Any]:
    return {"mount_point": options["mount_point"]} if options.get("mount_point") else {}


def _approle(client: VaultClient, options: Options) -> None:
    client.hvac.auth.approle.login(role_id=options["role_id"], secret_id=options.get("secret_id"), **_mount(options))


def _kubernetes(client: VaultClient, options: Options) -> None:
    jwt = options.get("jwt") or _read_secret(KUBERNETES_JWT, "the service account token of this pod (or give jwt)")
    client.hvac.auth.kubernetes.login(role=options["role_id"], jwt=jwt, **_mount(options))


def _jwt(client: VaultClient, options: Options) -> None:
    path = options.get("mount_point")
    client.hvac.auth.jwt.jwt_login(role=options["role_id"], jwt=options["jwt"], **({"path": path} if path else {}))


def _userpass(client: VaultClient, options: Options) -> None:
    client.hvac.auth.userpass.login(options["username"], options["password"], **_mount(options))


def _ldap(client: VaultClient, options: Options) -> None:
    client.hvac.auth.ldap.login(options["username"], options["password"], **_mount(options))


def _cert(client: VaultClient, options: Options) -> None:
    # The transport already presents the certificate, on every request to every node.
    mount = options.get("mount_point") or "cert"
    body = {"name": options["role_id"]} if options.get("role_id") else {}
    client.hvac.adapter.login(f"/v1/auth/{mount}/login", json=body)


def _aws_iam(client: VaultClient, options: Options) -> None:
    access, secret, session = (options.get(f"aws_{name}") for name in ("access_key", "secret_key", "security_token"))
    if not (access and secret):
        access, secret, session = _aws_credentials(options.get("aws_profile"))
    client.hvac.auth.aws.iam_login(
        access,
        secret,
        session_token=session,
        header_value=options.get("aws_iam_server_id"),
        role=options.get("role_id"),
        region=options.get("region") or "us-east-1",
        **_mount(options),
    )


def _aws_credentials(profile: Optional[str]) -> tuple[str, str, Optional[str]]:
    try:
        import boto3  # noqa: PLC0415 - only this method needs it
    except ImportError as error:
        raise VaultConfigError(
            "auth_method aws_iam needs boto3 to find AWS credentials; install it, or give aws_access_key and "
            "aws_secret_key."
        ) from error
    found = boto3.session.Session(profile_name=profile).get_credentials()
    if found is None:
        raise VaultConfigError(
            "auth_method aws_iam found no AWS credentials in options, environment, profile or host role."
        )
    frozen = found.get_frozen_credentials()
    return frozen.access_key, frozen.secret_key, frozen.token


METHODS: dict[str, tuple[tuple[str, ...], Callable[[VaultClient, Options], None]]] = {
    "approle": (("role_id",), _approle),
    "kubernetes": (("role_id",), _kubernetes),
    "jwt": (("role_id", "jwt"), _jwt),
    "userpass": (("username", "password"), _userpass),
    "ldap": (("username", "password"), _ldap),
    "cert": (("cert_auth_public_key", "cert_auth_private_key"), _cert),
    "aws_iam": ((), _aws_iam),
}
"""Each method's required options and its login. `token` is no login and stands apart."""


def find_token(options: Options, environment: Mapping[str, str]) -> Optional[str]:
    """Return the token by precedence: option, file named by an option, VAULT_TOKEN, ~/.vault-token; None without any.

    Raises:
        VaultConfigError: an option is empty, which is not "use another token"; or a file that one names cannot be read.
    """
    for given in ("token", "token_path", "token_file"):
        if options.get(given) is not None and not str(options[given]).strip():
            raise VaultConfigError(f"The option {given} is given and empty. Give a value, or omit it.")
    if options.get("token") is not None:
        return str(options["token"])
    name = options.get("token_file") or ".vault-token"
    if options.get("token_path") or options.get("token_file"):
        folder = options.get("token_path") or os.path.expanduser("~")
        return _read_secret(os.path.join(folder, name), "the token file")
    if environment.get("VAULT_TOKEN"):
        return environment["VAULT_TOKEN"]
    default = os.path.join(os.path.expanduser("~"), name)
    return _read_secret(default, "the token file") if os.path.exists(default) else None


def _read_secret(path: str, what: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            value = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise VaultConfigError(f"Cannot read {what} at {path}: {getattr(error, 'strerror', None) or error}.") from error
    if not value:
        raise VaultConfigError(f"{what} at {path} is empty.")
    return value


def validate(options: Options, environment: Mapping[str, str], required: bool = True) -> None:
    """Raises VaultConfigError when the chosen method lacks an option; says which."""
    method = options.get("auth_method") or "token"
    if method == "token":
        if required and find_token(options, environment) is None:
            raise VaultConfigError(
                "No token: neither the option token, token_path/token_file, VAULT_TOKEN nor ~/.vault-token gives one. "
                "Log in with 'vault login', or choose another auth_method."
            )
        return
    missing = [name for name in METHODS[method][0] if not options.get(name)]
    if missing:
        raise VaultConfigError(f"auth_method {method} needs {' and '.join(missing)}.")


def authenticate(client: VaultClient, options: Options, environment: Mapping[str, str]) -> None:
    """Logs the client in.

    Raises:
        VaultConfigError: an option is missing.
        VaultAuthError: Vault refused the login.
        VaultError: anything else that a request can meet.
    """
    validate(options, environment)
    method = options.get("auth_method") or "token"
    if method == "token":
        client.token = find_token(options, environment)
        return
    try:
        METHODS[method][1](client, options)
    except (VaultPermissionError, VaultApiError) as error:
        # Others do not judge the credentials: a node that redirects to a leader that is dead, one that cannot decrypt.
        if isinstance(error, VaultApiError) and error.status not in (400, 403, 404):
            raise
        mount = options.get("mount_point") or method.replace("aws_iam", "aws")
        raise VaultAuthError(
            f"Login with auth_method {method} (mount {mount}) was refused: {error} Check the credentials and their "
            "expiry, that the method is enabled at this mount, and that the user is not locked out: five refused "
            "logins lock it for 15 minutes."
        ) from error
    client.owns_token = True
