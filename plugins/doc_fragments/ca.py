# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which certificate authority, and how it is reached."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of module_utils/module.py, CA_SPEC."""

    DOCUMENTATION = r"""
requirements:
  - cryptography >= 42
options:
  pki_mount:
    description:
      - Where Vault's PKI engine is mounted. The login options are those of all modules that speak to Vault.
    type: str
    default: pki
  spire_server:
    description:
      - The program C(spire-server). With SPIRE, the module runs on the server's own host, as a user who may use its
        socket.
    type: str
    default: spire-server
  spire_socket:
    description:
      - SPIRE's API socket, where it is not the default one.
    type: path
"""
