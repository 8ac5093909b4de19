# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a role for several cases in one run of ansible-playbook, whose start takes as much time as many a refusal."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .pki import write_private
from .playbook import Playbook
from .processes import LabError


def refusals(
    playbook: Playbook, role: str, cases: Mapping[str, Mapping[str, Any]], *arguments: str, hosts: str = "all"
) -> dict[str, str]:
    """Run a role once for each case, on one host, and return what each of these runs has said, on one line.

    Args:
        playbook: the variables, inventory and environment. Its variables become those of the play, as extra variables
            would be stronger than those of a case.
        role: without the collection's name.
        cases: by name, the variables that differ.
        arguments: of ansible-playbook.
        hosts: of the play.

    Raises:
        LabError: a case was not refused.
    """
    tasks: list[dict[str, Any]] = []
    for case, changed in cases.items():
        run = {"ansible.builtin.include_role": {"name": f"custodes.security_dr.{role}"}, "vars": dict(changed)}
        caught = {"name": f"{case}: refused", "ansible.builtin.debug": {"msg": "The role has failed."}}
        tasks.append({"name": case, "block": [{"name": f"{case}: begin", **run}], "rescue": [caught]})
    play = {"hosts": hosts, "gather_facts": False, "vars": dict(playbook.variables), "tasks": tasks}
    file = Path(tempfile.mkdtemp(prefix="cases-", dir=playbook.directory.parent)) / "play.json"
    write_private(file, json.dumps([play]).encode())
    done = replace(playbook, variables={}, name=str(file)).run(*arguments)
    said = {}
    for case in cases:
        found = re.search(rf"TASK \[{case}: begin\].*?TASK \[{case}: refused\]", done.output, re.DOTALL)
        if done.rc or not found:
            raise LabError(f"The case '{case}' of {role} was not refused:\n{done.output}")
        said[case] = " ".join(found[0].split())
    return said
