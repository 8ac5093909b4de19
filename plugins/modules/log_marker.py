#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs a line that stands nowhere else."""

from __future__ import annotations

DOCUMENTATION = r"""
module: log_marker
short_description: Log a line that stands nowhere else
version_added: 0.2.0
description:
  - Logs one line with an id that nobody can guess, as any program of the host logs, for
    M(custodes.security_dr.log_marker_info) to look for in the backends.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
    details:
      - Nothing is logged, so there is no marker to look for.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run logs another line.
options:
  file:
    description:
      - Appends to this file, which Fluent Bit has to follow. It is made where its folder exists. A link is refused.
      - Without it, the line goes into the systemd journal.
    type: path
  format:
    description:
      - V(cri) writes the line as container logs have it, for a file in C(/var/log/containers).
    type: str
    choices: [plain, cri]
    default: plain
"""

EXAMPLES = r"""
- name: Log a line
  custodes.security_dr.log_marker:
  register: sent

- name: Is it in both backends?
  custodes.security_dr.log_marker_info:
    marker: "{{ sent.marker }}"
    since: "{{ sent.time }}"
    backends:
      - {name: primary, type: loki, url: "https://loki.example.com:3100", token: "{{ loki_token }}"}
      - {name: secondary, type: opensearch, url: "https://search.example.net:9200", query: logs}
  delegate_to: localhost
"""

RETURN = r"""
marker:
  description: What stands in the line, and in no other.
  returned: when it was logged
  type: str
  sample: marker-0f6a5dd0c6bb4a5d8a2a07cbe1cf7d4e
time:
  description: When it was logged, in seconds since 1970, by the clock of the host.
  returned: when it was logged
  type: float
  sample: 1795550423.118
"""

from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.logs import marker as markers
from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {"file": {"type": "path"}, "format": {"type": "str", "choices": [*markers.FORMS], "default": "plain"}},
        vault=False,
    )

    def action() -> dict[str, Any]:
        if module.check_mode:
            return {"changed": True}
        marker, file = markers.new_marker(), module.params["file"]
        sent = markers.into_file(marker, file, module.params["format"]) if file else markers.into_journal(marker)
        return {"changed": True, "marker": marker, "time": sent}

    module.run(action)


if __name__ == "__main__":
    main()
