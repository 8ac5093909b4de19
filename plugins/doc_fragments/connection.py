# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How to reach Vault."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of module_utils/module.py, CONNECTION_SPEC."""

    DOCUMENTATION = r"""
requirements:
  - hvac (Python library) 2.1.0 or newer
options:
  url:
    description:
      - Address of a Vault node, scheme and port included.
      - If not set, the environment variable E(VAULT_ADDR) is used.
    type: str
  ca_cert:
    description:
      - PEM file, or folder of hashed ones, that vouches for Vault's certificate.
      - It wins over whatever E(REQUESTS_CA_BUNDLE) or E(CURL_CA_BUNDLE) say.
      - If not set, the environment variable E(VAULT_CACERT) is used, else the system's trusted CAs.
    type: path
    aliases: [cacert]
  validate_certs:
    description:
      - Whether Vault's certificate is verified. Do not turn this off where a token is sent.
    type: bool
    default: true
  namespace:
    description:
      - Namespace of Vault Enterprise, HCP Vault or OpenBao.
      - If not set, the environment variable E(VAULT_NAMESPACE) is used.
    type: str
  timeout:
    description:
      - Longest silence of the server that is borne, in seconds.
    type: float
    default: 30.0
  connect_timeout:
    description:
      - Longest wait for a connection, in seconds.
    type: float
    default: 5.0
  retries:
    description:
      - How often a request that is safe to repeat is repeated. A restore and other writes never are.
    type: int
    default: 2
  proxies:
    description:
      - Proxy URL by scheme. If not set, those of the environment are used. V({}) uses none.
    type: dict
"""
