# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How to reach Prometheus, Alertmanager, or a receiver of alerts."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of module_utils/module.py, HTTP_SPEC."""

    DOCUMENTATION = r"""
options:
  ca_cert:
    description:
      - CA certificates on the host. Without it, the system's.
    type: path
  url_username:
    description:
      - User of its basic authentication.
    type: str
  url_password:
    description:
      - Password of O(url_username).
    type: str
  timeout:
    description:
      - Seconds of one request.
    type: float
    default: 10.0
"""
