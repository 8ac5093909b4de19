#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps Vault's data on a host aside."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_raft_data_aside
short_description: Copy or move Vault's Raft data aside
version_added: 0.2.0
description:
  - Waits until Vault, which has been told to stop, has let go of its data, and copies or moves all of it to the folder
    C(aside-STAMP) in O(path), with owners and modes.
  - Killed, it can be run again. Nothing is ever deleted.
  - Does not follow links in O(path), which the user of Vault owns. A copy of data with a link in it is an error.
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
    details:
      - A copy that is there already is kept. With O(move) nothing is left to be moved.
options:
  path:
    description:
      - Vault's data folder.
    type: path
    required: true
  stamp:
    description:
      - Names the folder; the time of the operation.
    type: str
    required: true
  move:
    description:
      - Leaves O(path) empty, so that the node joins its cluster anew.
    type: bool
    default: false
  wait_timeout:
    description:
      - How long to wait until Vault has let go, in seconds.
    type: float
    default: 60.0
"""

EXAMPLES = r"""
- name: Keep a copy of the data of a Vault that is stopped
  custodes.security_dr.vault_raft_data_aside:
    path: /opt/vault/data
    stamp: 20261124T053000Z
  become: true
"""

RETURN = r"""
aside:
  description: Where the data is kept.
  returned: success
  type: str
  sample: /opt/vault/data/aside-20261124T053000Z
"""

import re
from pathlib import Path

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.quorum.errors import QuorumError
from ansible_collections.custodes.security_dr.plugins.module_utils.quorum.folder import keep_aside, wait_released


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(
        {
            "path": {"type": "path", "required": True},
            "stamp": {"type": "str", "required": True},
            "move": {"type": "bool", "default": False},
            "wait_timeout": {"type": "float", "default": 60.0},
        },
        vault=False,
    )

    def action() -> dict[str, object]:
        options = module.params
        path = Path(options["path"])
        if not re.fullmatch(r"\w+", options["stamp"]):
            raise QuorumError(f"'{options['stamp']}' is no stamp: letters and digits only.")
        if not module.check_mode:
            wait_released(path, options["wait_timeout"])
        changed, aside = keep_aside(path, options["stamp"], options["move"], writes=not module.check_mode)
        return {"changed": changed, "aside": str(aside)}

    module.run(action)


if __name__ == "__main__":
    main()
