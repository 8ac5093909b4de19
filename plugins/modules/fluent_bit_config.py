#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configures Fluent Bit so that every line goes to two backends, and proves that it runs with it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fluent_bit_config
short_description: Have Fluent Bit ship every log line to two backends
version_added: 0.2.0
description:
  - Refuses what would lose lines silently, renders the configuration, has C(fluent-bit --dry-run) judge it, writes it,
    restarts Fluent Bit, and waits until its metrics know both outputs.
  - Where any of it fails, all files are as they were. A Fluent Bit that ran before runs again with those; where none
    did, it is stopped and disabled.
  - A run that was killed at any point is completed by the next.
  - C(docs/log-pipeline.md) tells what each type of output does when it is refused.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
    details:
      - All is refused and judged in check mode as well.
  diff_mode:
    support: full
    details:
      - Of the secrets it tells the names.
  idempotent:
    support: full
notes:
  - The local file rotates from Fluent Bit 5.1 on; older ones are refused.
options:
  inputs:
    description:
      - What is followed, a list with C(type) of V(containers), V(journal) or V(files); for files C(path), several
        with commas between, and C(exclude); for the journal C(read_from_tail), to begin at its end at the first start.
        Required for O(state=present).
    type: list
    elements: dict
    default: []
  primary:
    description:
      - The first backend. Either C(preset) of V(grafana_cloud), V(axiom), V(better_stack), or C(type) of V(loki),
        V(http), V(es), V(opensearch), V(opentelemetry); C(host), C(port); C(tls), on by default, C(ca_file); C(user)
        and C(token_env), the name of one of O(secrets); C(uri), C(compress), C(bound_bytes); C(labels) and C(tenant)
        of Loki, C(index) of V(es) and V(opensearch), C(time_key) of V(http), C(dataset) of V(axiom).
    type: dict
  secondary:
    description:
      - The second one, as O(primary), on infrastructure that shares nothing with it.
    type: dict
  buffer:
    description:
      - The local file C(all.log), in the folder C(path), C(/var/log/fluent-bit-buffer) by default. It is rotated at
        C(max_bytes), 100 MB, and C(keep) older ones stay, 10.
    type: dict
    default: {}
  bound_bytes:
    description:
      - What may wait for one output on disk. Of more, the oldest is dropped.
    type: int
    default: 5000000000
  outage_seconds:
    description:
      - How long a backend may be away and nothing is lost.
    type: int
    default: 14400
  bytes_per_second:
    description:
      - How much is logged, at most on average.
    type: int
    default: 100000
  storage_path:
    description:
      - Where lines wait, and where Fluent Bit keeps how far it has read.
    type: path
    default: /var/lib/fluent-bit/storage
  metrics_listen:
    description:
      - Address of the metrics. V(127.0.0.1) by default; V(0.0.0.0) with O(manifest).
    type: str
  metrics_port:
    description:
      - Port of the metrics.
    type: int
    default: 2020
  secrets:
    description:
      - Tokens and passwords by the name of the variable, kept in C(custodes.env) of O(folder), mode 0600.
    type: dict
    default: {}
  form:
    description:
      - The format of the configuration.
    type: str
    choices: [yaml, classic]
    default: yaml
  folder:
    description:
      - The folder of C(custodes.yaml) or C(custodes.conf).
    type: path
    default: /etc/fluent-bit
  binary:
    description:
      - Fluent Bit. Where there is none, O(unit) is refused; in check mode and without O(unit) nobody judges the
        configuration, and a warning says so.
    type: path
    default: /opt/fluent-bit/bin/fluent-bit
  unit:
    description:
      - Content of the systemd unit C(fluent-bit.service). If not given, nothing is written, started or restarted there.
    type: str
  manifest:
    description:
      - Writes the configuration as a ConfigMap into this file, and nothing else. The pods have to have the variables.
    type: path
  state:
    description:
      - V(absent) stops Fluent Bit, where O(unit) is given, and removes the files. What waits stays, and so does the
        local file.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Ship the journal to Loki and to Axiom
  custodes.security_dr.fluent_bit_config:
    inputs:
      - type: journal
    primary: {type: loki, host: loki.example.com, port: 3100, token_env: LOKI_TOKEN}
    secondary: {preset: axiom, dataset: hosts, token_env: AXIOM_TOKEN}
    secrets:
      LOKI_TOKEN: "{{ vaulted_loki_token }}"
      AXIOM_TOKEN: "{{ vaulted_axiom_token }}"
    unit: "{{ lookup('ansible.builtin.template', 'fluent-bit.service') }}"
"""

RETURN = r"""
changed_files:
  description: The paths that were written or removed, or would be.
  returned: success
  type: list
  elements: str
  sample: [/etc/fluent-bit/custodes.yaml]
judged:
  description: Whether there was a Fluent Bit that judged the configuration.
  returned: success
  type: bool
  sample: true
restarted:
  description: Whether Fluent Bit was started or restarted, or would be.
  returned: success
  type: bool
  sample: true
"""

from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.logs import pipeline
from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule

# Stands for "/".
ROOT = "/"


SPEC: dict[str, dict[str, Any]] = {
    "inputs": {"type": "list", "elements": "dict", "default": []},
    "primary": {"type": "dict"},
    "secondary": {"type": "dict"},
    "buffer": {"type": "dict", "default": {}},
    "bound_bytes": {"type": "int", "default": 5_000_000_000},
    "outage_seconds": {"type": "int", "default": 14400},
    "bytes_per_second": {"type": "int", "default": 100_000},
    "storage_path": {"type": "path", "default": "/var/lib/fluent-bit/storage"},
    "metrics_listen": {"type": "str"},
    "metrics_port": {"type": "int", "default": 2020},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "form": {"type": "str", "choices": ["yaml", "classic"], "default": "yaml"},
    "folder": {"type": "path", "default": "/etc/fluent-bit"},
    "binary": {"type": "path", "default": "/opt/fluent-bit/bin/fluent-bit"},
    "unit": {"type": "str"},
    "manifest": {"type": "path"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        SPEC,
        vault=False,
        required_if=[("state", "present", ("inputs", "primary", "secondary"))],
        mutually_exclusive=[("unit", "manifest")],
    )

    def run(command: Any, environment: Any) -> tuple[int, str]:
        try:
            code, out, err = module.run_command(list(command), environ_update=environment, handle_exceptions=False)
        except OSError as error:
            return 127, f"{command[0]}: {error.strerror}"
        return code, out + err

    def action() -> dict[str, Any]:
        done = pipeline.configure(module.params, run, check=module.check_mode, root=ROOT)
        if not done["judged"] and module.params["state"] == "present":
            module.warn(
                f"There is no {module.params['binary']}: nobody has judged the configuration. The role fluent_bit "
                "installs the package with fluent_bit_install."
            )
        for doubt in done.pop("doubts"):
            module.warn(doubt)
        return done

    module.run(action)


if __name__ == "__main__":
    main()
