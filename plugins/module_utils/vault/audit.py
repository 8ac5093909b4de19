# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit device that writes to a file. Source: Vault's API documentation for sys/audit."""

from __future__ import annotations

from typing import Optional

from .client import VaultClient
from .errors import VaultConfigError


def file_device(client: VaultClient, path: str) -> Optional[str]:
    """The file to which the device of this path writes, None where there is no such device.

    Raises:
        VaultConfigError: the path is taken by a device of another type.
        VaultError: the token may not read it, among others.
    """
    answer = client.request("GET", "sys/audit")
    device = (answer.get("data") or answer).get(f"{path.strip('/')}/")
    if not isinstance(device, dict):
        return None
    if device.get("type") != "file":
        raise VaultConfigError(
            f"The audit device {path} at {client.connection.url} is of type {device.get('type')}, not file. Choose "
            "another path for this one."
        )
    return str((device.get("options") or {}).get("file_path"))


def enable_file(client: VaultClient, path: str, file_path: str) -> None:
    """Enables a device that writes to a file, which every node must be able to write. Raises VaultError."""
    body = {"type": "file", "options": {"file_path": file_path}}
    client.request("PUT", f"sys/audit/{path.strip('/')}", json=body)
