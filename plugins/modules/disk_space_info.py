#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Free space for a folder that may not be there yet."""

from __future__ import annotations

DOCUMENTATION = r"""
module: disk_space_info
short_description: Free space on the file system in which a folder lies or would lie
version_added: 0.1.0
description:
  - Asks the file system of O(path), or of the nearest folder above it that exists, how much an unprivileged process may
    still write. Needs nothing but Python on the host, and is quicker than gathering facts.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes.info
options:
  path:
    description:
      - The folder.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Is there room for Vault's data?
  custodes.security_dr.disk_space_info:
    path: /opt/vault/data
  register: space
  failed_when: space.free_bytes < 1073741824
"""

RETURN = r"""
path:
  description: The folder that was asked, O(path) or the nearest above it.
  returned: success
  type: str
  sample: /opt
free_bytes:
  description: Bytes that may still be written.
  returned: success
  type: int
  sample: 52428800000
"""

import shutil
from pathlib import Path

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule


def main() -> None:
    """Entry point."""
    module = SecurityDrModule({"path": {"type": "path", "required": True}}, vault=False)
    path = Path(module.params["path"]).absolute()
    existing = next(folder for folder in (path, *path.parents) if folder.is_dir())
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        module.fail_json(msg=f"Cannot ask the file system of {existing}: {error.strerror}.")
    module.exit_json(changed=False, path=str(existing), free_bytes=free)


if __name__ == "__main__":
    main()
