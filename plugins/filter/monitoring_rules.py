# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alert rules of one Prometheus, as a filter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: monitoring_rules
short_description: The alert rules of one Prometheus, out of the source that has them all
version_added: 0.3.0
description:
  - Keeps the rules of the components that a Prometheus watches, puts the names of its jobs for those of the source, and
    adds labels.
author: the custodes.security_dr authors (@custodes)
positional: _input
options:
  _input:
    description: The content of a rule file. Rules without a label C(component) are always kept.
    type: dict
    required: true
  components:
    description: The components that this Prometheus watches. Those of the component V(prometheus) are always kept.
    type: list
    elements: str
    required: true
  jobs:
    description: Names of jobs, by the names that the source has for them.
    type: dict
    default: {}
  prometheus:
    description: The name of this Prometheus, which its alert C(Watchdog) gets as a label.
    type: str
    required: true
  labels:
    description: More labels, for every alert.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: See what a secondary Prometheus would get
  ansible.builtin.debug:
    msg: "{{ source | custodes.security_dr.monitoring_rules(components=['alertmanager'], prometheus='secondary') }}"
  vars:
    source: "{{ lookup('ansible.builtin.file', 'monitoring-health.rules.yml') | from_yaml }}"
"""

RETURN = r"""
_value:
  description: The content of a rule file.
  type: dict
  sample: {groups: [{name: monitoring-health, rules: []}]}
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.errors import AlertingError
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.rules import select


def monitoring_rules(
    source: Mapping[str, Any],
    components: Collection[str],
    prometheus: str,
    jobs: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The rules; see `select`."""
    try:
        return select(source, components, jobs or {}, prometheus, labels or {})
    except AlertingError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Its names."""
        return {"monitoring_rules": monitoring_rules}
