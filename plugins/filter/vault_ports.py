# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a Vault can be reached, out of its API addresses."""

from __future__ import annotations

DOCUMENTATION = r"""
name: vault_ports
short_description: API and cluster port of each node of a Vault
version_added: 0.2.0
description:
  - The cluster port is the one after the API's, unless Vault was told otherwise.
author: the custodes.security_dr authors (@custodes)
options:
  _input:
    description: API addresses.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: What must a copy of this Vault not reach?
  ansible.builtin.debug:
    msg: "{{ ['https://vault-1.example.com:8200'] | custodes.security_dr.vault_ports }}"
"""

RETURN = r"""
_value:
  description: Each with C(host) and C(port).
  type: list
  elements: dict
  sample: [{host: vault-1.example.com, port: 8200}, {host: vault-1.example.com, port: 8201}]
"""

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from ansible.errors import AnsibleFilterError


def vault_ports(addresses: Iterable[str]) -> list[dict[str, Any]]:
    """API port and cluster port of each."""
    found: list[dict[str, Any]] = []
    for address in addresses:
        parts = urlsplit(address)
        if not parts.hostname:
            raise AnsibleFilterError(f"{address!r} is no address of Vault: give https://HOST:PORT.")
        port = parts.port or 8200
        found += [{"host": parts.hostname, "port": number} for number in (port, port + 1)]
    return found


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Its names."""
        return {"vault_ports": vault_ports}
