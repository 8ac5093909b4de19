# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where the cores meet Ansible: argument specs, login, and errors as `fail_json`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib

from .agent.errors import ServiceError
from .alerting.errors import AlertingError
from .ca.errors import CaError
from .detection.errors import DetectionError
from .drill.errors import DrillError
from .escrow.errors import EscrowError
from .files import StoreError
from .logs.errors import LogsError
from .options import empty_items, empty_options
from .quorum.errors import QuorumError
from .recovery.errors import RecoveryError
from .snapshot.errors import SnapshotError
from .tls.errors import TlsError
from .vault.errors import VaultError

# `vault.client` imports hvac and requests, which take a sixth of the time of a module that does not speak to Vault: it
# is imported where it is needed.
if TYPE_CHECKING:
    from .vault.client import Connection, VaultClient

AUTH_METHODS = ("token", "approle", "kubernetes", "jwt", "userpass", "ldap", "cert", "aws_iam")
"""Values of auth_method: `token`, and the methods of vault/auth.py."""

CONNECTION_SPEC: dict[str, dict[str, Any]] = {
    "url": {"type": "str", "fallback": (env_fallback, ["VAULT_ADDR"])},
    "ca_cert": {"type": "path", "aliases": ["cacert"], "fallback": (env_fallback, ["VAULT_CACERT"])},
    "validate_certs": {"type": "bool", "default": True},
    "namespace": {"type": "str", "fallback": (env_fallback, ["VAULT_NAMESPACE"])},
    "timeout": {"type": "float", "default": 30.0},
    "connect_timeout": {"type": "float", "default": 5.0},
    "retries": {"type": "int", "default": 2},
    "proxies": {"type": "dict", "no_log": True},
}
"""Options of every module that speaks to Vault; described in doc_fragments/connection.py."""

AUTH_SPEC: dict[str, dict[str, Any]] = {
    "auth_method": {"type": "str", "choices": list(AUTH_METHODS), "default": "token"},
    "mount_point": {"type": "str"},
    "token": {"type": "str", "no_log": True},
    "token_path": {"type": "path", "no_log": False},
    "token_file": {"type": "str", "no_log": False},
    "role_id": {"type": "str"},
    "secret_id": {"type": "str", "no_log": True},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "jwt": {"type": "str", "no_log": True},
    "cert_auth_public_key": {"type": "path", "no_log": False},
    "cert_auth_private_key": {"type": "path", "no_log": False},
    "aws_profile": {"type": "str"},
    "aws_access_key": {"type": "str", "no_log": False},
    "aws_secret_key": {"type": "str", "no_log": True},
    "aws_security_token": {"type": "str", "no_log": True},
    "aws_iam_server_id": {"type": "str"},
    "region": {"type": "str"},
}
"""Options of every module that logs in; described in doc_fragments/auth.py."""

STORES_SPEC: dict[str, dict[str, Any]] = {
    "stores": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "aliases": ["destinations"],
        "options": {
            "type": {"type": "str", "choices": ["filesystem", "s3"], "required": True},
            "required": {"type": "bool", "default": True},
            "retention": {
                "type": "dict",
                "options": {
                    "max_age_days": {"type": "float", "required": True},
                    "min_count": {"type": "int", "required": True},
                    "daily": {"type": "int"},
                    "weekly": {"type": "int"},
                    "monthly": {"type": "int"},
                },
            },
            "path": {"type": "path"},
            "bucket": {"type": "str"},
            "prefix": {"type": "str"},
            "region": {"type": "str"},
            "vault_region": {"type": "str"},
            "endpoint_url": {"type": "str"},
            "addressing_style": {"type": "str", "choices": ["auto", "path", "virtual"]},
            "ca_cert": {"type": "path"},
            "proxies": {"type": "dict", "no_log": True},
            "timeout": {"type": "int"},
            "retries": {"type": "int"},
            "profile": {"type": "str"},
            "access_key": {"type": "str", "no_log": False},
            "secret_key": {"type": "str", "no_log": True},
            "session_token": {"type": "str", "no_log": True},
            "server_side_encryption": {"type": "str", "choices": ["aws:kms", "AES256", "none"]},
            "kms_key_id": {"type": "str", "no_log": False},
            "storage_class": {"type": "str"},
            "tags": {"type": "dict"},
            "object_lock_mode": {"type": "str", "choices": ["GOVERNANCE", "COMPLIANCE"]},
            "object_lock_days": {"type": "int"},
        },
    },
}
"""Options of every module that keeps or reads snapshots in stores; described in doc_fragments/store.py."""

CA_SPEC: dict[str, dict[str, Any]] = {
    "pki_mount": {"type": "str", "default": "pki"},
    "spire_server": {"type": "str", "default": "spire-server"},
    "spire_socket": {"type": "path"},
}
"""Options of the modules that speak to a certificate authority; described in doc_fragments/ca.py."""

HTTP_SPEC: dict[str, dict[str, Any]] = {
    "ca_cert": {"type": "path"},
    "url_username": {"type": "str"},
    "url_password": {"type": "str", "no_log": True},
    "timeout": {"type": "float", "default": 10.0},
}
"""Options of the modules that ask Prometheus, Alertmanager or its receivers; described in doc_fragments/alerts.py."""

EXPECTED = (
    VaultError,
    SnapshotError,
    StoreError,
    RecoveryError,
    EscrowError,
    QuorumError,
    ServiceError,
    DetectionError,
    AlertingError,
    LogsError,
    TlsError,
    DrillError,
    CaError,
)
"""What an operator can mend. Anything else is a bug and stays a traceback."""


class SecurityDrModule(AnsibleModule):  # type: ignore[misc]
    """An AnsibleModule that knows how to reach Vault.

    Args:
        argument_spec: the module's own options.
        login: whether the module takes the options of AUTH_SPEC.
        vault: whether the module speaks to Vault at all.
    """

    def __init__(self, argument_spec: Mapping[str, Any], login: bool = True, vault: bool = True, **kwargs: Any) -> None:
        shared = {**(CONNECTION_SPEC if vault else {}), **(AUTH_SPEC if login and vault else {})}
        super().__init__(argument_spec={**shared, **argument_spec}, supports_check_mode=True, **kwargs)
        if empty := self._empty or empty_items(self.argument_spec, self.params):
            self.fail_json(msg=empty, error_type="OptionError")
        if vault:
            self.need_hvac()

    def _load_params(self) -> None:
        # Afterwards AnsibleModule has filled in defaults and the environment: nothing tells what was given any more.
        super()._load_params()
        self._empty = empty_options(self.argument_spec, self.params)

    def need_hvac(self) -> None:
        """Fails where hvac is not there; for a module that speaks to Vault only if told to."""
        from .vault.client import HVAC_IMPORT_ERROR  # noqa: PLC0415

        if HVAC_IMPORT_ERROR is not None:
            self.fail_json(msg=missing_required_lib("hvac"), exception=str(HVAC_IMPORT_ERROR))

    def connection(self, url: str | None = None) -> Connection:
        """The connection as the options describe it, to another node when a url is given. Raises VaultConfigError."""
        from .vault.client import Connection  # noqa: PLC0415

        return Connection.from_options(self.params, url)

    def login(self, url: str | None = None) -> VaultClient:
        """A client that is logged in. Raises VaultError."""
        from .vault import auth  # noqa: PLC0415
        from .vault.client import VaultClient  # noqa: PLC0415

        client = VaultClient(self.connection(url))
        auth.authenticate(client, self.params, os.environ)
        return client

    @contextmanager
    def session(self, url: str | None = None) -> Iterator[VaultClient]:
        """A client that is logged in, and whose login is revoked at the end. Raises VaultError."""
        client = self.login(url)
        try:
            yield client
        finally:
            client.logout()

    @property
    def hides_output(self) -> bool:
        """Whether the task says no_log: only then may a result hold a secret."""
        return bool(self.no_log)

    def run_program(self, command: Sequence[str]) -> tuple[int, str]:
        """Runs a program of this host; gives its exit code, 127 where there is none of that name, and what it said."""
        program = self.get_bin_path(command[0])
        if program is None:
            return 127, ""
        code, out, err = self.run_command([program, *command[1:]])
        return code, out + err

    def run(self, action: Callable[[], Mapping[str, Any]]) -> None:
        """Exits with what the action returns, or fails with what an operator can mend."""
        try:
            result = action()
        except EXPECTED as error:
            self.fail_json(msg=str(error), error_type=type(error).__name__)
        self.exit_json(**result)
