# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that no playbook and no role runs, as ansible-playbook sends them: each payload has all the imports."""

from __future__ import annotations

import re
from pathlib import Path

import ansible_collections.custodes.security_dr as collection
from integration.run_ansible import Ansible, task

ROOT = Path(next(iter(collection.__path__)))


def modules() -> list[str]:
    """Name the modules that the other tests run in their own process alone, where every import works."""
    yaml = "\n".join(file.read_text() for folder in ("playbooks", "roles") for file in (ROOT / folder).rglob("*.yml"))
    run = set(re.findall(r"custodes\.security_dr\.(\w+):", yaml))
    action_plugins = {file.stem for file in (ROOT / "plugins" / "action").glob("*.py")}
    return sorted({file.stem for file in (ROOT / "plugins" / "modules").glob("*.py")} - run - action_plugins)


def test_a_module_starts_and_refuses_what_it_does_not_know(ansible: Ansible) -> None:
    names = modules()
    assert "vault_snapshot_backup" in names
    results = ansible.run_by_playbook([task(name, no_such_option="x") for name in names], typed_failures=False)
    for name, result in zip(names, results, strict=True):
        # A module whose payload lacks an import ends in a traceback before it reads its options.
        refused = f"Unsupported parameters for (custodes.security_dr.{name}) module: no_such_option"
        assert result["msg"].startswith((refused, "missing required arguments: ")), result
