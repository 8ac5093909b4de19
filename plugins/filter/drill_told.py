# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a part of a drill has shown, as the record has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.drill.told import PARTS

DOCUMENTATION = r"""
name: drill_told
short_description: What the results of a drill's tasks come to
version_added: 0.2.0
description:
  - Used by the role P(custodes.security_dr.dr_drill#role).
author: the custodes.security_dr authors (@custodes)
options:
  _input:
    description: Which kind of results it is - V(vault), V(logs), V(certificates) or V(alert).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: How long did a page take?
  ansible.builtin.debug:
    msg: "{{ ('alert' | custodes.security_dr.drill_told(since=sent.sent, arrived=found, what='PagerDuty')).measured }}"
"""

RETURN = r"""
_value:
  description: For C(told) of M(custodes.security_dr.drill_record).
  type: dict
"""


def drill_told(kind: str, **results: Any) -> dict[str, Any]:
    """What the results come to."""
    return PARTS[kind](**results)


class FilterModule:
    """Gives Ansible the filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"drill_told": drill_told}
