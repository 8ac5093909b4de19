#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Injects a fault that undoes itself when nobody does."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_fault
short_description: Stop something for a drill, see that it is stopped, and have it started again whatever happens
version_added: 0.2.0
description:
  - Before it stops anything it arms a dead man's switch on the host, which undoes the fault after O(seconds) - a
    transient timer of systemd, or where systemd is not init a process of its own. So the fault ends too when the drill
    is killed, or the controller is lost.
  - A fault that did not take is undone at once, and the task fails.
  - In check mode it is only looked whether the fault could be injected.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  name:
    description:
      - Its name on this host, of lower-case letters, digits and C(-).
    type: str
    required: true
  state:
    description:
      - V(injected) or V(undone).
    type: str
    choices: [injected, undone]
    default: injected
  systemd_unit:
    description:
      - A unit that is stopped, and started again.
    type: str
  kubernetes:
    description:
      - A workload that is scaled to nothing, and to as many replicas as before. It takes C(kubectl) on this host.
    type: dict
    suboptions:
      workload:
        description:
          - Such as C(statefulset/loki).
        type: str
        required: true
      namespace:
        description:
          - Its namespace.
        type: str
        required: true
      kubeconfig:
        description:
          - The file with the access.
        type: path
      context:
        description:
          - The context in it.
        type: str
  commands:
    description:
      - Commands of your own, each a list of words, without a shell. No secrets - a process list shows them.
    type: dict
    suboptions:
      inject:
        description:
          - Begins the fault.
        type: list
        elements: str
        required: true
      undo:
        description:
          - Ends it, and does no harm when it has ended already.
        type: list
        elements: str
        required: true
      check:
        description:
          - Succeeds while all is well, and fails while the fault is in force.
        type: list
        elements: str
        required: true
  seconds:
    description:
      - After so many the dead man's switch undoes it.
    type: float
    default: 600.0
  wait:
    description:
      - Seconds until the fault has to be in force, or to be over.
    type: float
    default: 60.0
  folder:
    description:
      - Where it is noted what is in force.
    type: path
    default: /run/custodes-drill
"""

EXAMPLES = r"""
- name: Stop the primary log store, for ten minutes at most
  custodes.security_dr.drill_fault:
    name: logs
    systemd_unit: loki.service

- name: Start it again
  custodes.security_dr.drill_fault:
    name: logs
    systemd_unit: loki.service
    state: undone
"""

RETURN = r"""
fault:
  description:
    - What was done and when, in UTC. C(undone_by) is C(drill), C(dead-man) when the switch was first,
      or C(other) when the fault was over before both.
    - Null where there was nothing to be undone.
  returned: always
  type: dict
  sample:
    what: systemctl stop loki.service
    injected: "2026-11-27T09:00:01.000Z"
    confirmed: "2026-11-27T09:00:01.200Z"
    undone: null
    undone_by: null
"""

from pathlib import Path
from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.drill import fault as faults
from ansible_collections.custodes.security_dr.plugins.module_utils.drill.errors import DrillError
from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule

_WORDS = {"type": "list", "elements": "str", "required": True}


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["injected", "undone"], "default": "injected"},
            "systemd_unit": {"type": "str"},
            "kubernetes": {
                "type": "dict",
                "options": {
                    "workload": {"type": "str", "required": True},
                    "namespace": {"type": "str", "required": True},
                    "kubeconfig": {"type": "path"},
                    "context": {"type": "str"},
                },
            },
            "commands": {"type": "dict", "options": {"inject": _WORDS, "undo": _WORDS, "check": _WORDS}},
            "seconds": {"type": "float", "default": 600.0},
            "wait": {"type": "float", "default": 60.0},
            "folder": {"type": "path", "default": str(faults.FOLDER)},
        },
        vault=False,
        mutually_exclusive=[("systemd_unit", "kubernetes", "commands")],
        required_one_of=[("systemd_unit", "kubernetes", "commands")],
    )
    module.run(lambda: _fault(module))


def _fault(module: SecurityDrModule) -> dict[str, Any]:
    options = module.params
    injector = faults.Injector(Path(options["folder"]))
    noted = injector.state(options["name"])
    fault = _wanted(options, noted)
    if module.check_mode:
        in_force = noted is not None and injector.in_force(fault)
        if options["state"] == "injected" and not in_force:
            injector.rehearse(fault)
        return {"changed": not in_force if options["state"] == "injected" else noted is not None, "fault": None}
    if options["state"] == "injected":
        return injector.inject(fault, options["seconds"], options["wait"])
    return injector.undo(fault, options["wait"])


def _wanted(options: dict[str, Any], noted: Any) -> faults.Fault:
    name = options["name"]
    if options["systemd_unit"]:
        return faults.of_unit(name, options["systemd_unit"])
    if options["commands"]:
        given = options["commands"]
        if not all(given.values()):
            raise DrillError("commands: inject, undo and check are lists of words, and none may be empty.")
        return faults.Fault(name, " ".join(given["inject"]), given["inject"], given["undo"], given["check"])
    given = options["kubernetes"]
    kubectl = ["kubectl"]
    kubectl += ["--kubeconfig", given["kubeconfig"]] if given["kubeconfig"] else []
    kubectl += ["--context", given["context"]] if given["context"] else []
    workload, namespace = given["workload"], given["namespace"]
    replicas = faults.replicas_of(faults.run_command, workload, namespace, kubectl, noted)
    return faults.of_workload(name, workload, namespace, replicas, kubectl)


if __name__ == "__main__":
    main()
