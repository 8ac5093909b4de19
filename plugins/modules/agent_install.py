#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the agent, made of the code that this module carries with it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_install
short_description: Install the agent, C(custodes), as one executable file
version_added: 0.2.0
description:
  - Writes the command line that hosts run unattended, C(custodes snapshot) for instance, as one executable zip file
    (PEP 441). It is the same code as the modules', which Ansible carries to the host with every module; nothing is
    built, downloaded or copied besides.
  - The same version of the collection and of Python gives the same bytes on every host.
  - The agent runs on Python 3.9 or newer. C(custodes snapshot) needs hvac, boto3 and requests in that Python;
    C(custodes detect) needs nothing.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Tells the files inside, by hash.
  idempotent:
    support: full
options:
  path:
    description:
      - Where it is installed, mode 0755. The folder has to exist.
    type: path
    default: /usr/local/bin/custodes
  interpreter:
    description:
      - Path of the Python that runs it, isolated (C(-I)) from the environment.
      - By default that of the agent which is there already, else C(/usr/bin/python3).
    type: path
  compiled:
    description:
      - Whether it carries the byte code of that Python too, with which it starts faster.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Install the agent
  custodes.security_dr.agent_install:
    interpreter: /opt/custodes/venv/bin/python
"""

RETURN = r"""
path:
  description: The agent.
  returned: success
  type: str
  sample: /usr/local/bin/custodes
sha256:
  description: Of the whole file.
  returned: success
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
"""

import hashlib
from pathlib import Path

from ansible_collections.custodes.security_dr.plugins.module_utils.agent import zipapp
from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "path": {"type": "path", "default": "/usr/local/bin/custodes"},
            "interpreter": {"type": "path"},
            "compiled": {"type": "bool", "default": True},
        },
        vault=False,
    )

    def action() -> dict[str, object]:
        path = Path(module.params["path"])
        content, mode = zipapp.installed(path)
        interpreter = module.params["interpreter"] or zipapp.interpreter_of(content) or "/usr/bin/python3"
        wanted = zipapp.build(interpreter, compiled=module.params["compiled"])
        changed = content != wanted or mode != zipapp.MODE
        if changed and not module.check_mode:
            zipapp.write(path, wanted)
        return {
            "changed": changed,
            "path": str(path),
            "sha256": hashlib.sha256(wanted).hexdigest(),
            "diff": {
                "before_header": str(path),
                "after_header": str(path),
                "before": zipapp.describe(content),
                "after": zipapp.describe(wanted),
            },
        }

    module.run(action)


if __name__ == "__main__":
    main()
