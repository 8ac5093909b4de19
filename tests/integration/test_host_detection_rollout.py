# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roll-out as Ansible runs it, with its batches; an action that needs no host plays the one task."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from lab.playbook import ansible_playbook

ROOT = Path(__file__).resolve().parents[2]
PLAYED = """\
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        told = self._task.args
        fate = task_vars.get("fate", "good")
        if fate == "unreachable":
            raise AnsibleConnectionFailure("Connection timed out")
        if fate == "failed":
            return {"failed": True, "msg": "The first run failed: no room\\nThe journal ends so: x"}
        assert "OnCalendar=*:0/5" in told["units"]["degraded-detection.timer"]
        assert told["config"]["reminder_hours"] == 24 and told["config"]["accept_package_changes"] is True
        assert "interpreter" not in told
        return {
            "changed": not self._task.check_mode, "version": "0.2.0", "baseline": {"state": "written"}, "blind": [],
            "counts": {"critical": 0, "high": 1, "medium": 0, "low": 0, "info": 1}, "findings": [],
        }
"""


class Rollout(NamedTuple):
    """Attributes: rc; output; hosts on file, their state by name, in the order of the table; unfinished."""

    rc: int
    output: str
    hosts: dict[str, str]
    unfinished: list[str]


class Fleet:
    """A checkout in which the one task on a host is played, and hosts that are only names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.directory = folder / "rollout"
        collection = folder / "collections" / "ansible_collections" / "custodes" / "security_dr"
        actions = collection / "plugins" / "action"
        actions.mkdir(parents=True)
        for where, leave in ((Path(), "plugins"), (Path("plugins"), "action"), (Path("plugins", "action"), "")):
            for path in (ROOT / where).iterdir():
                if path.name not in (leave, ".venv", ".git", "__pycache__"):
                    (collection / where / path.name).symlink_to(path)
        (actions / "agent_service.py").write_text(PLAYED)
        self.playbook = collection / "playbooks" / "deploy-host-detection.yml"

    def run(self, fates: Sequence[str], *arguments: str, **variables: Any) -> Rollout:
        hosts = {f"app-{number:02}": {"fate": fate} for number, fate in enumerate(fates, 1)}
        inventory = self.folder / "inventory.json"
        inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": {"ansible_connection": "local"}}}))
        given = {"host_detection_rollout_directory": str(self.directory), **variables}
        command = [*ansible_playbook(), "-i", str(inventory), "-e", json.dumps(given), *arguments, str(self.playbook)]
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_HOME": str(self.folder / ".ansible"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "collections"),
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_LOCALHOST_WARNING": "false",
        }
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder, env=environment)
        output = done.stdout + done.stderr
        on_file: dict[str, Any] = {"hosts": {}}
        if self.directory.exists():
            on_file = json.loads((self.directory / "summary.json").read_text())
        unfinished = self.directory / "unfinished"
        left = unfinished.read_text().split() if unfinished.exists() else []
        return Rollout(done.returncode, output, {name: one["state"] for name, one in on_file["hosts"].items()}, left)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def test_all_is_well(fleet: Fleet) -> None:
    done = fleet.run(["good"] * 10)
    assert done.rc == 0, done.output
    assert done.hosts == {f"app-{number:02}": "changed" for number in range(1, 11)}
    assert done.unfinished == []
    # One host, then a tenth, then quarters.
    told = re.findall(
        r"10 hosts: (\d+) done \(\d+ changed\), 0 failed, 0 unreachable, (\d+) not tried yet", done.output
    )
    assert told == [("1", "9"), ("2", "8"), ("4", "6"), ("6", "4"), ("8", "2"), ("10", "0")]
    assert "Findings: 10 high, 10 info." in done.output


def test_a_canary_that_fails_ends_it_after_its_table(fleet: Fleet) -> None:
    done = fleet.run(["failed", *["good"] * 9])
    assert done.rc != 0
    assert "app-01  failed" in done.output
    assert "The first run failed: no room" in done.output
    assert "10 hosts: 0 done (0 changed), 1 failed, 0 unreachable, 9 not tried yet" in done.output
    assert done.hosts == {"app-01": "failed"}
    assert len(done.unfinished) == 10


def test_few_failures_do_not_end_it_and_are_resumed(fleet: Fleet) -> None:
    fates = ["good", "good", "failed", "good", "unreachable", "good", "good", "good", "good", "good"]
    done = fleet.run(fates, host_detection_batches=[1, "100%"], host_detection_max_fail_percentage=30)
    assert done.rc != 0
    assert "10 hosts: 8 done (8 changed), 1 failed, 1 unreachable, 0 not tried yet" in done.output
    assert "Connection timed out" in done.output
    assert done.unfinished == ["app-03", "app-05"]
    rest = fleet.run(["good"] * 10, f"--limit=@{fleet.directory / 'unfinished'}")
    assert rest.rc == 0, rest.output
    assert rest.hosts == {"app-03": "changed", "app-05": "changed"}
    assert rest.unfinished == []


@pytest.mark.parametrize("fate", ["failed", "unreachable"])
def test_a_batch_with_too_many_is_the_last_one(fleet: Fleet, fate: str) -> None:
    fates = ["good", fate, "good", "good", fate, "good", "good", "good", "good"]
    done = fleet.run(fates, host_detection_batches=[1, 4], host_detection_max_fail_percentage=40)
    assert done.rc != 0
    counted = {"failed": 0, "unreachable": 0, fate: 2}
    summed = ", ".join(f"{count} {name}" for name, count in counted.items())
    assert f"9 hosts: 3 done (3 changed), {summed}, 4 not tried yet" in done.output
    # Those of the batch that were well are done, and no other was touched.
    assert done.unfinished == ["app-02", "app-05", "app-06", "app-07", "app-08", "app-09"]
    assert list(done.hosts) == [f"app-0{number}" for number in range(1, 6)]


def test_an_option_that_does_not_exist_is_a_failure_with_its_reason(fleet: Fleet) -> None:
    done = fleet.run(["good"], host_detection_state="away")
    assert done.rc != 0
    assert done.hosts == {"app-01": "failed"}
    assert "value of host_detection_state must be one of: present, absent" in done.output


def test_check_mode_writes_nothing(fleet: Fleet) -> None:
    done = fleet.run(["good"] * 2, "--check")
    assert done.rc == 0, done.output
    assert "2 hosts" in done.output
    assert not fleet.directory.exists()


def test_a_host_has_one_task(fleet: Fleet) -> None:
    done = fleet.run(["good"])
    tasks = re.findall(r"^TASK \[(.*?)\]", done.output, re.MULTILINE)
    assert len(tasks) <= 6, tasks
