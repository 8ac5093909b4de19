# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands for kubernetes.core.k8s: it can remove a row of the file that LAB_KUBERNETES names."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    names = ("api_version", "kind", "namespace", "name", "state")
    module = AnsibleModule({name: {"type": "str", "required": True} for name in names})
    file = Path(os.environ["LAB_KUBERNETES"])
    rows = json.loads(file.read_text())
    for row in rows:
        if [row[name] for name in names[:4]] == [module.params[name] for name in names[:4]]:
            row["gone"] = module.params["state"] == "absent"
    file.write_text(json.dumps(rows))
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
