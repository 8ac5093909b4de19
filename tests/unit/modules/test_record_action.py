# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugin behind vault_recovery_record: its options as documented, its states, and its failures."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.custodes.security_dr.plugins.action import vault_recovery_record
from ansible_collections.custodes.security_dr.plugins.module_utils import playbook_lock as lock
from ansible_collections.custodes.security_dr.plugins.module_utils.files import read_json
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery import journal as journals
from ansible_collections.custodes.security_dr.plugins.modules import vault_recovery_record as documented
from unit.modules.runner import taken, told

NODES = ["https://vault-1:8200"]


def task(check: bool = False, **options: Any) -> dict[str, Any]:
    """Runs the plugin as a task of a playbook would."""
    fake = SimpleNamespace(args=options, check_mode=check, async_val=0, diff=False)
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
    plugin = vault_recovery_record.ActionModule(fake, connection, None, None, None, None)
    result: dict[str, Any] = plugin.run(task_vars={})
    return result


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(lock, "current_holder", lambda: lock.Holder(os.getpid(), "now", "controller", "root"))
    return str(tmp_path / "recovery")


def test_a_recovery(folder: str) -> None:
    assert task(directory=folder, state="started", nodes=NODES)["resumed"] is False
    noted = task(directory=folder, state="step", step="Restore", facts={"restore": "begun"}, detail={"a": 1})
    (step,) = noted["journal"]["steps"]
    assert (noted["journal"]["restore"], step["name"], step["detail"]) == ("begun", "Restore", {"a": 1})
    given = {"problem": "It broke.", "failed_task": "Restore it", "objective": "60", "rpo_objective": "3600"}
    failed = task(directory=folder, state="failed", **given)["record"]
    assert (failed["problem"], failed["failed_task"]) == ("It broke.", "Restore it")
    assert (failed["rto_objective_seconds"], failed["rpo_objective_seconds"]) == (60.0, 3600.0)
    assert task(directory=folder, state="started", nodes=NODES)["resumed"] is True
    task(directory=folder, state="step", step="Canaries readable at every node")
    finished = task(directory=folder, state="finished", versions={"ansible": "2.19"})
    assert read_json(Path(finished["record_files"][0]))["versions"] == {"ansible": "2.19"}
    assert not (Path(folder) / journals.JOURNAL).exists()


def test_check_mode(folder: str) -> None:
    assert task(True, directory=folder, state="started", nodes=NODES)["changed"] is True
    task(True, directory=folder, state="step", step="Restore")
    assert "record_files" not in task(True, directory=folder, state="finished")
    assert not Path(folder).exists()


def test_what_an_operator_can_mend_is_a_failed_task(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(folder).mkdir()
    early = task(directory=folder, state="step", step="Restore")
    assert (early["failed"], early["error_type"], "comes first" in early["msg"]) == (True, "RecoveryError", True)
    task(directory=folder, state="started", nodes=NODES)
    monkeypatch.setattr(lock, "current_holder", lambda: lock.Holder(os.getpid(), "now", "controller", "alice"))
    assert "Another recovery is running" in task(directory=folder, state="started", nodes=NODES)["msg"]
    (Path(folder) / journals.JOURNAL).write_text("{")
    assert task(directory=folder, state="step", step="x")["error_type"] == "StoreError"


@pytest.mark.parametrize(
    "options",
    [
        {"state": "started"},
        {"state": "step"},
        {"state": "elsewhere"},
        {"state": "started", "nodes": NODES, "node": "x"},
        {"state": "step", "step": "x", "detail": "no dict"},
    ],
)
def test_options_that_do_not_fit(folder: str, options: dict[str, Any]) -> None:
    with pytest.raises(AnsibleActionFail):
        task(directory=folder, **options)


def test_options_are_those_that_are_documented(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Any] = {}
    plain = ActionBase.validate_argument_spec

    def keep(self: Any, argument_spec: Any = None, **more: Any) -> Any:
        kept.update(argument_spec)
        return plain(self, argument_spec, **more)

    monkeypatch.setattr(ActionBase, "validate_argument_spec", keep)
    task(True, directory=folder, state="started", nodes=NODES)
    assert told(documented.DOCUMENTATION) == taken(kept)
