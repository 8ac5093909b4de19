# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a name of the network stands for here, so that a host with another name server, or none, can be asked of it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: resolved
short_description: Hosts and ports, by their names and by every address that the controller resolves them to
version_added: 0.2.0
description:
  - Fails for a name that the controller cannot resolve. That a host cannot reach such a name proves nothing.
author: the custodes.security_dr authors (@custodes)
options:
  _input:
    description: Each with C(host) and C(port).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: What must a host not reach?
  ansible.builtin.debug:
    msg: "{{ [{'host': 'db-1.example.com', 'port': 5432}] | custodes.security_dr.resolved }}"
"""

RETURN = r"""
_value:
  description: What was given, with C(address); once for the name and once for each address.
  type: list
  elements: dict
  sample:
    - {host: db-1.example.com, port: 5432, address: db-1.example.com}
    - {host: db-1.example.com, port: 5432, address: 192.0.2.7}
"""

import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def resolved(targets: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each target by its name and by its addresses."""
    found: list[dict[str, Any]] = []
    for target in targets:
        host = str(target["host"])
        try:
            answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise AnsibleFilterError(
                f"{host} is not resolved here: {error}. Give a name that is, or an address: whoever cannot reach "
                "another one proves nothing."
            ) from error
        addresses = dict.fromkeys([host, *(str(answer[4][0]) for answer in answers)])
        found += [{**target, "address": address} for address in addresses]
    return found


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Its names."""
        return {"resolved": resolved}
