# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A recovery's journal and record: resumed after a kill, whole at the end, readable by people."""

from __future__ import annotations

import json
import os
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils import playbook_lock as lock
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.errors import RecoveryError
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.journal import INIT, JOURNAL
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.process import PROOF, Recovery
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.report import (
    FAILED,
    RECOVERED,
    Ending,
    duration,
    markdown,
)

START = datetime(2026, 11, 24, 3, 0, tzinfo=timezone.utc)
NODES = ["https://vault-1:8200", "https://vault-2:8200"]
SNAPSHOT = {"path": "/b/x.snap", "taken_at": "2026-11-24T02:00:00+00:00", "index": 7, "rejected": []}
READ = {"path": "secret/dr/canary", "node": NODES[0], "readable": True, "problem": None, "fields": ["value"]}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    holder = lock.Holder(os.getpid(), "Tue Nov 24 03:00:00 2026", "controller", "ops")
    monkeypatch.setattr(lock, "current_holder", lambda: holder)
    return tmp_path / "recovery"


def whole(folder: Path, **facts: Any) -> dict[str, Any]:
    """A recovery from its first to its last step, 20 s long."""
    recovery = Recovery(folder, writes=True)
    recovery.start(NODES, at(0))
    recovery.step("Choose the snapshot", {}, {"snapshot": SNAPSHOT, "initializing": True}, at(2))
    recovery.step(PROOF, {}, {"secrets": [READ], **facts}, at(12))
    return recovery.end(Ending(RECOVERED, 900, versions={"ansible": "2.19"}), at(20))


class TestRun:
    def test_times(self, folder: Path) -> None:
        record = whole(folder)["record"]
        assert [step["seconds"] for step in record["steps"]] == [2, 10]
        assert (record["rto_seconds"], record["rpo_seconds"], record["rto_met"]) == (12, 3600, True)

    def test_an_objective_that_is_missed_is_said(self, folder: Path) -> None:
        recovery = Recovery(folder, writes=True)
        recovery.start(NODES, at(0))
        recovery.step(PROOF, {}, {"secrets": [READ]}, at(12))
        ended = recovery.end(Ending(RECOVERED, 10), at(20))
        assert ended["record"]["rto_met"] is False
        assert any("MISSED" in line for line in ended["summary"])

    def test_a_secret_that_is_not_readable_is_no_recovery_time(self, folder: Path) -> None:
        record = whole(folder, secrets=[{**READ, "readable": False, "problem": "nothing there"}])["record"]
        assert record["rto_seconds"] is None

    def test_the_end_leaves_the_record_and_nothing_else(self, folder: Path) -> None:
        (folder / INIT).parent.mkdir(parents=True)
        (folder / INIT).write_text("{}")
        files = [Path(name) for name in whole(folder)["record_files"]]
        assert sorted(path.name for path in folder.iterdir()) == sorted(
            ["recovery.lock", *(file.name for file in files)]
        )
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert json.loads(files[0].read_text())["status"] == "recovered"

    def test_a_failure_keeps_what_the_next_run_needs(self, folder: Path) -> None:
        recovery = Recovery(folder, writes=True)
        recovery.start(NODES, at(0))
        recovery.step("Begin the restore", {}, {"restore": "begun"}, at(5))
        failed = recovery.end(Ending(FAILED, 900, problem="the leader went away"), at(9))
        assert (failed["record"]["status"], failed["record"]["problem"]) == ("failed", "the leader went away")
        resumed = Recovery(folder, writes=True).start(NODES, at(60))
        assert resumed["resumed"] is True
        assert resumed["journal"]["restore"] == "begun"
        assert resumed["journal"]["runs"] == 2

    def test_time_between_two_runs_counts_for_the_whole_but_for_no_step(self, folder: Path) -> None:
        Recovery(folder, writes=True).start(NODES, at(0))
        recovery = Recovery(folder, writes=True)
        recovery.start(NODES, at(100))
        recovery.step(PROOF, {}, {"secrets": [READ]}, at(103))
        record = recovery.end(Ending(RECOVERED, 900), at(104))["record"]
        assert [step["seconds"] for step in record["steps"]] == [3]
        assert record["rto_seconds"] == 103

    def test_a_folder_of_another_cluster_is_refused(self, folder: Path) -> None:
        Recovery(folder, writes=True).start(NODES, at(0))
        Recovery(folder, writes=True).step("x", {}, {"restore": "begun"}, at(1))
        with pytest.raises(RecoveryError, match="unfinished recovery of https://vault-1:8200"):
            Recovery(folder, writes=True).start(["https://other:8200"], at(1))

    def test_steps_need_a_beginning(self, folder: Path) -> None:
        with pytest.raises(RecoveryError, match="comes first"):
            Recovery(folder, writes=True).step("x", {}, {}, at(0))

    def test_a_damaged_journal_is_said(self, folder: Path) -> None:
        folder.mkdir()
        (folder / JOURNAL).write_text("{")
        with pytest.raises(StoreError, match=r"journal\.json is damaged"):
            Recovery(folder, writes=True).start(NODES, at(0))


def test_check_mode_touches_nothing(folder: Path) -> None:
    recovery = Recovery(folder, writes=False)
    assert recovery.start(NODES, at(0))["resumed"] is False
    recovery.step("Preflight", {}, {"checks": []}, at(1))
    assert "record_files" not in recovery.end(Ending(RECOVERED, 900), at(2))
    assert not folder.exists()


def test_markdown_survives_what_is_in_messages(folder: Path) -> None:
    record = whole(folder)["record"]
    page = markdown({**record, "problem": "a | b\nc", "status": "failed"})
    assert "| Status | failed: a \\| b c |" in page.splitlines()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "not known"),
        (1.25, "1.2 s"),
        (119, "119.0 s"),
        (900, "15 min 0 s"),
        (7260, "2 h 1 min"),
        (180000, "2 d 2 h"),
    ],
)
def test_duration(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words
