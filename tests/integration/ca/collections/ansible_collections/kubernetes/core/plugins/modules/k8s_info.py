# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands for kubernetes.core.k8s_info: objects are rows of a file, which LAB_KUBERNETES in the environment names."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    names = ("api_version", "kind", "namespace", "name")
    module = AnsibleModule({name: {"type": "str", "required": True} for name in names}, supports_check_mode=True)
    file = Path(os.environ["LAB_KUBERNETES"])
    rows = json.loads(file.read_text())
    # cert-manager's work, done between two questions.
    secrets = {(row["namespace"], row["name"]): row for row in rows if row["kind"] == "Secret"}
    for row in rows:
        if row["kind"] == "Certificate":
            secret = secrets[row["namespace"], row["spec"]["secretName"]]
            if secret["gone"] and not secret["never"]:
                secret["gone"] = False
                row["status"]["revision"] += 1
    file.write_text(json.dumps(rows))
    asked = [module.params[name] for name in names]
    found = [row for row in rows if [row[name] for name in names] == asked]
    module.exit_json(changed=False, resources=found)


if __name__ == "__main__":
    main()
