#!/usr/bin/python
# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the configuration of a Vault server by Vault itself, then writes it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_server_config
short_description: Check the configuration of a Vault server with Vault and write it
version_added: 0.2.0
description:
  - Writes the configuration, the environment, the certificates and the systemd unit of a Vault server on its host, each
    file whole or not at all. It neither starts nor restarts Vault.
  - Before it writes anything, C(vault operator diagnose) checks the new configuration with the new certificates and the
    new environment, as the user that runs Vault, and C(systemd-analyze verify) checks a new unit. The seal has to
    encrypt. An option that Vault does not know is refused.
  - A server that runs does not notice the check, which has a data folder and ports of its own.
author: the custodes.security_dr authors (@custodes)
extends_documentation_fragment:
  - custodes.security_dr.attributes
attributes:
  check_mode:
    support: full
    details:
      - Vault and systemd check the new files in check mode as well.
  diff_mode:
    support: full
    details:
      - Shows the configuration and the unit, and neither the environment nor the certificates.
  idempotent:
    support: full
notes:
  - Needs systemd and root.
options:
  program:
    description: Path of Vault. While it does not exist, as in check mode before the installation, nothing is checked.
    type: path
    required: true
  user:
    description: Name of the user that runs Vault, and of its group. In check mode the user need not exist.
    type: str
    required: true
  config_file:
    description: Path of the configuration. Root owns it, and the group of O(user) reads it.
    type: path
    default: /etc/vault.d/vault.hcl
  config:
    description: Content of O(config_file). Do not put a secret into it.
    type: str
    required: true
  trial_config:
    description:
      - The configuration for the check, which differs from O(config) in its paths and ports. C(@STAGE@) in it stands
        for the folder of the check, which holds the O(certificates) by their names, and an empty folder C(data).
    type: str
    required: true
  environment_file:
    description: Path of the environment, which only root reads.
    type: path
    default: /etc/vault.d/vault.env
  environment_content:
    description: Content of O(environment_file), an C(EnvironmentFile) of systemd, with the secrets of the seal.
    type: str
    default: ""
  unit_file:
    description: Path of the systemd unit.
    type: path
    default: /etc/systemd/system/vault.service
  unit:
    description: Content of O(unit_file).
    type: str
    required: true
  certificates:
    description: Certificates and keys. Root owns them, and the group of O(user) reads them.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path on the host.
        type: path
        required: true
      mode:
        description: Permissions, octal.
        type: str
        default: "0640"
      name:
        description: Name of the file in the folder of the check.
        type: str
        required: true
      content:
        description: Content, PEM. If it is empty, the module leaves the file alone.
        type: str
        default: ""
  folders:
    description: Folders, in the order in which they are created. Their group is that of O(user).
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path on the host.
        type: path
        required: true
      mode:
        description: Permissions, octal.
        type: str
        default: "0750"
      own:
        description: Whether O(user) owns the folder. Otherwise root does.
        type: bool
        default: false
  started_file:
    description:
      - Path of a file that the unit touches as root when it starts Vault, for RV(newer_than_start).
      - A file that another user owns counts as missing.
    type: path
    default: /run/vault.started
"""

EXAMPLES = r"""
- name: Check the configuration of Vault, then write it
  custodes.security_dr.vault_server_config:
    program: /usr/local/bin/vault
    user: vault
    config: "{{ lookup('ansible.builtin.template', 'vault.hcl.j2') }}"
    trial_config: "{{ lookup('ansible.builtin.template', 'vault.hcl.j2', template_vars={'stage': '@STAGE@'}) }}"
    environment_content: |
      AWS_SECRET_ACCESS_KEY="{{ vaulted_secret_key }}"
    unit: "{{ lookup('ansible.builtin.template', 'vault.service.j2') }}"
    certificates:
      - name: server.pem
        path: /etc/vault.d/tls/server.pem
        content: "{{ lookup('ansible.builtin.file', 'server.pem', rstrip=false) }}"
      - name: server.key
        path: /etc/vault.d/tls/server.key
        content: "{{ lookup('ansible.builtin.file', 'server.key', rstrip=false) }}"
    folders:
      - {path: /etc/vault.d, mode: "0755"}
      - {path: /etc/vault.d/tls, mode: "0750"}
      - {path: /opt/vault/data, mode: "0700", own: true}
"""

RETURN = r"""
changed_paths:
  description: Paths of the files and folders that were changed, or would be.
  returned: success
  type: list
  elements: str
  sample: [/etc/vault.d/vault.hcl]
newer_than_start:
  description:
    - Whether the program, the environment, the configuration or the unit on the host was changed after the start of
      Vault. V(true) where Vault was never started.
  returned: success
  type: bool
  sample: true
"""

from collections.abc import Sequence
from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.module import SecurityDrModule
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.server_files import (
    Certificate,
    Folder,
    ServerFiles,
    Text,
    Wanted,
    account,
    octal,
)

CERTIFICATE: dict[str, dict[str, Any]] = {
    "path": {"type": "path", "required": True},
    "mode": {"type": "str", "default": "0640"},
    "name": {"type": "str", "required": True},
    "content": {"type": "str", "default": "", "no_log": True},
}
FOLDER: dict[str, dict[str, Any]] = {
    "path": {"type": "path", "required": True},
    "mode": {"type": "str", "default": "0750"},
    "own": {"type": "bool", "default": False},
}


SPEC: dict[str, dict[str, Any]] = {
    "program": {"type": "path", "required": True},
    "user": {"type": "str", "required": True},
    "config_file": {"type": "path", "default": "/etc/vault.d/vault.hcl"},
    "config": {"type": "str", "required": True},
    "trial_config": {"type": "str", "required": True},
    "environment_file": {"type": "path", "default": "/etc/vault.d/vault.env"},
    "environment_content": {"type": "str", "default": "", "no_log": True},
    "unit_file": {"type": "path", "default": "/etc/systemd/system/vault.service"},
    "unit": {"type": "str", "required": True},
    "certificates": {"type": "list", "elements": "dict", "default": [], "options": CERTIFICATE},
    "folders": {"type": "list", "elements": "dict", "default": [], "options": FOLDER},
    "started_file": {"type": "path", "default": "/run/vault.started"},
}


def main() -> None:
    """Entry point."""
    module = SecurityDrModule(SPEC, vault=False)
    options = module.params

    def run(command: Sequence[str]) -> tuple[int, str, str]:
        code, out, err = module.run_command(list(command))
        return code, out, err

    def action() -> dict[str, Any]:
        wanted = Wanted(
            program=options["program"],
            user=account(options["user"], check=module.check_mode),
            folders=[Folder(one["path"], octal(one["mode"]), one["own"]) for one in options["folders"]],
            certificates=[
                Certificate(one["name"], one["path"], one["content"], octal(one["mode"]))
                for one in options["certificates"]
                if one["content"]
            ],
            environment=Text(options["environment_file"], options["environment_content"]),
            config=Text(options["config_file"], options["config"]),
            trial=options["trial_config"],
            unit=Text(options["unit_file"], options["unit"]),
        )
        files = ServerFiles(wanted, run, check=module.check_mode)
        done = files.apply()
        return {
            "changed": bool(done.changed),
            "changed_paths": done.changed,
            "diff": done.diff,
            "newer_than_start": files.newer_than(options["started_file"]),
        }

    module.run(action)


if __name__ == "__main__":
    main()
