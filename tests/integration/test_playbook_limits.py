# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A playbook that does nothing is a failure: --limit to any group, and a role without its playbook."""

from __future__ import annotations

import json
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from lab.playbook import ROOT, ansible_playbook

PLAYBOOKS = sorted(path.name for path in (ROOT / "playbooks").glob("*.yml") if "_" not in path.name)
GROUPS = ("vault", "alertmanager", "prometheus", "watchdog", "ca_rotation_clients", "dr_drill_controller")
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
RUN_BY_A_PLAYBOOK = {"vault_recovery", "vault_quorum", "ca_rotation", "dr_drill"}


def inventory(folder: Path) -> Path:
    """Write an inventory of unreachable hosts: every task on one of them fails."""
    unreachable = {"ansible_host": "127.0.0.1", "ansible_port": 9, "ansible_ssh_common_args": "-o ConnectTimeout=1"}
    hosts = {group: {"hosts": {f"host-of-{group.replace('_', '-')}": unreachable}} for group in GROUPS}
    roles = {"hosts": {f"role-{role}": unreachable for role in ROLES}}
    file = folder / "inventory.json"
    file.write_text(json.dumps({"all": {"children": {**hosts, "roles": roles}}}))
    return file


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [*ansible_playbook(), "-i", str(inventory(folder)), *arguments],
        cwd=folder,
        # Where the playbooks write what is relative.
        env={**os.environ, "PWD": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def groups_of(playbook: str) -> set[str]:
    """Return the groups that the plays of a playbook are for."""
    hosts = " ".join(str(play.get("hosts")) for play in yaml.safe_load((ROOT / "playbooks" / playbook).read_text()))
    return {group for group in GROUPS if re.search(rf"\b{group}\b", hosts)}


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_limit_never_ends_well_with_nothing_done(playbook: str, tmp_path: Path) -> None:
    # One of its own groups, each, and one that it has nothing to do with.
    groups = [*sorted(groups_of(playbook)), "roles"]
    for group in groups:
        (tmp_path / group).mkdir()

    def limited(group: str) -> tuple[int, str]:
        return run(tmp_path / group, str(ROOT / "playbooks" / playbook), "--limit", group)

    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(groups, pool.map(limited, groups), strict=True))
    for group, (code, words) in results.items():
        assert code != 0, (group, words)
        if "Cannot run this playbook" not in words:
            assert re.search(r"(unreachable|failed)=[1-9]", words), (group, words)
        else:
            assert f"with --limit {group}: it needs" in words
            assert "Nothing was done. Run it again" in words
    if "all" not in re.findall(r"default\('(\w+)'\)", (ROOT / "playbooks" / playbook).read_text()):
        assert "Cannot run this playbook" in results["roles"][1]


def test_a_role_without_its_playbook_does_not_end_well(tmp_path: Path) -> None:
    # One play for all of them: Ansible ends after a play of which no host is left.
    role = {"ansible.builtin.include_role": {"name": "custodes.security_dr.{{ inventory_hostname.split('-', 1)[1] }}"}}
    (tmp_path / "play.json").write_text(json.dumps([{"hosts": "roles", "gather_facts": False, "tasks": [role]}]))
    code, words = run(tmp_path, "play.json")
    assert code != 0
    for role in ROLES:
        recap = re.search(rf"role-{role} : ok=\d+ changed=(\d+) unreachable=(\d+) failed=(\d+)", words)
        assert recap is not None, words
        assert recap[1] == "0", role
        assert "0" in (recap[2], recap[3]), role
        assert (recap[2], recap[3]) != ("0", "0"), role
        assert (f"The role custodes.security_dr.{role} does nothing alone" in words) is (role in RUN_BY_A_PLAYBOOK)
