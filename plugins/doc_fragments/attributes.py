# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module can do; each module fills in `support`."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes in Ansible's terms."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and tell what would change without changing it.
  diff_mode:
    description: Tells in diff mode what changes.
  idempotent:
    description: A second run with the same options changes nothing more.
"""
    INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    description: Can run in check mode and tell what would change without changing it.
    details:
      - This module changes nothing.
  diff_mode:
    support: N/A
    description: Tells in diff mode what changes.
  idempotent:
    support: full
    description: A second run with the same options changes nothing more.
"""
