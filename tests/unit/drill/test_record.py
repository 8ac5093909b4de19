# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a drill: what it says, what it keeps of one that was killed, and what stays open."""

from __future__ import annotations

import json
import os
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils import playbook_lock
from ansible_collections.custodes.security_dr.plugins.module_utils.drill import chain
from ansible_collections.custodes.security_dr.plugins.module_utils.drill.errors import DrillError
from ansible_collections.custodes.security_dr.plugins.module_utils.drill.record import JOURNAL, Drill, metrics
from ansible_collections.custodes.security_dr.plugins.module_utils.playbook_lock import HeldError, Holder

START = datetime(2026, 11, 27, 9, tzinfo=timezone.utc)
SCHEMA = json.loads((Path(__file__).parents[3] / "docs/schemas/drill-record.schema.json").read_text())
OBJECTIVE = {"what": "until the marker is in the secondary", "at_most": 30.0, "unit": "s"}
FAULT = {
    "what": "systemctl stop loki.service on log1",
    "injected": "2026-11-27T09:00:01.000Z",
    "confirmed": "2026-11-27T09:00:02.000Z",
    "undone": "2026-11-27T09:00:09.000Z",
    "undone_by": "drill",
}


def about(**changed: Any) -> dict[str, Any]:
    told = {"mode": "drill", "scope": ["logs"], "operator": "alice", "reason": "Q4", "versions": {"ansible": "2.19"}}
    return {**told, **changed}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.fixture(autouse=True)
def holder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playbook_lock, "current_holder", lambda: Holder(os.getpid(), "now", "controller", "alice"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "drills"


def whole(
    folder: Path, told: dict[str, Any], begin: float = 0, closed: Any = (), problem: str | None = None, **changed: Any
) -> dict[str, Any]:
    drill = Drill(folder)
    drill.begin(about(**changed), closed, at(begin))
    drill.begin_phase("logs", "Logs survive the loss of a backend", OBJECTIVE, at(begin + 1))
    drill.end_phase("logs", told, at(begin + 10))
    record: dict[str, Any] = drill.end(problem, at(begin + 11))["record"]
    jsonschema.validate(record, SCHEMA, cls=jsonschema.Draft202012Validator)
    return record


class TestVerdict:
    def test_passed(self, folder: Path) -> None:
        record = whole(folder, {"measured": 1.2, "fault": FAULT, "evidence": ["marker drill-1"]})
        assert (record["outcome"], record["verdict"]) == ("completed", "passed")
        assert record["phases"][0]["verdict"] == "passed"
        assert (record["started"], record["ended"]) == ("2026-11-27T09:00:00.000Z", "2026-11-27T09:00:11.000Z")
        assert record["findings"] == []

    @pytest.mark.parametrize(
        ("told", "finding"),
        [
            ({"measured": 30.1}, "More than 30 s until the marker is in the secondary."),
            ({}, "Nothing was measured until the marker is in the secondary."),
            ({"measured": 1.0, "problem": "The fault did not take."}, "The fault did not take."),
        ],
    )
    def test_completed_is_not_passed(self, folder: Path, told: dict[str, Any], finding: str) -> None:
        record = whole(folder, {**told, "owner": "bob", "due_days": 7})
        assert (record["outcome"], record["verdict"]) == ("completed", "failed")
        assert [(one["text"], one["owner"], one["due"], one["status"], one["phase"]) for one in record["findings"]] == [
            (finding, "bob", "2026-12-04", "open", "logs")
        ]

    def test_exactly_the_objective_is_met(self, folder: Path) -> None:
        assert whole(folder, {"measured": 30.0})["verdict"] == "passed"

    def test_what_was_skipped_has_not_passed(self, folder: Path) -> None:
        record = whole(folder, {"skipped": "a real alert fires"})
        assert (record["verdict"], record["phases"][0]["verdict"]) == ("failed", "skipped")
        assert record["phases"][0]["deviations"] == ["Not run: a real alert fires"]
        assert record["findings"] == []

    def test_a_part_that_never_began_has_not_passed(self, folder: Path) -> None:
        assert whole(folder, {"measured": 1.0}, scope=["logs", "alerting"])["verdict"] == "failed"

    def test_aborted_is_never_passed(self, folder: Path) -> None:
        record = whole(folder, {"measured": 1.0}, problem="A real alert fires.")
        assert (record["outcome"], record["verdict"], record["abort_reason"]) == (
            "aborted",
            "failed",
            "A real alert fires.",
        )

    def test_a_drill_of_no_phase_has_not_passed(self, folder: Path) -> None:
        drill = Drill(folder)
        drill.begin(about(), [], START)
        assert drill.end(None, at(1))["record"]["verdict"] == "failed"

    def test_a_rehearsal_passes_without_measuring(self, folder: Path) -> None:
        assert whole(folder, {}, mode="rehearsal")["verdict"] == "passed"


class TestKilled:
    def test_the_next_writes_its_record(self, folder: Path) -> None:
        first = Drill(folder)
        first.begin(about(), [], START)
        first.begin_phase("logs", "Logs", OBJECTIVE, at(1))
        begun = Drill(folder).begin(about(operator="bob"), [], at(3600))
        assert begun["killed"] == "drill-20261127T090000Z.json"
        ((_name, record),) = chain.read(folder)
        jsonschema.validate(record, SCHEMA, cls=jsonschema.Draft202012Validator)
        assert (record["outcome"], record["verdict"], record["operator"]) == ("aborted", "failed", "alice")
        assert record["phases"][0]["verdict"] == "aborted"
        assert begun["drill"]["id"] == "20261127T100000Z"

    def test_between_its_record_and_its_end(self, folder: Path) -> None:
        whole(folder, {"measured": 1.0})
        before = (folder / "drill-20261127T090000Z.json").read_bytes()
        (folder / JOURNAL).write_text(json.dumps({**json.loads(before), "id": "20261127T090000Z"}))
        Drill(folder).begin(about(), [], at(60))
        assert (folder / "drill-20261127T090000Z.json").read_bytes() == before

    def test_another_that_runs_is_not_disturbed(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Drill(folder).begin(about(), [], START)
        before = (folder / JOURNAL).read_bytes()
        monkeypatch.setattr(playbook_lock, "current_holder", lambda: Holder(os.getpid(), "now", "controller", "bob"))
        with pytest.raises(HeldError, match=r"Another drill is running: ansible-playbook with process id \d+ of alice"):
            Drill(folder).begin(about(), [], at(1))
        assert (folder / JOURNAL).read_bytes() == before


class TestFindings:
    def test_stay_open_until_closed(self, folder: Path) -> None:
        (finding,) = whole(folder, {"problem": "No marker."})["findings"]
        second = whole(folder, {"measured": 1.0}, begin=100)
        assert second["findings"] == [finding]
        assert second["verdict"] == "passed"
        closing = [{"id": finding["id"], "by": "bob", "text": "Firewall opened."}]
        third = whole(folder, {"measured": 1.0}, begin=200, closed=closing)
        assert third["findings"][0]["status"] == "closed"
        assert third["findings"][0]["closed"]["by"] == "bob"
        assert whole(folder, {"measured": 1.0}, begin=300, closed=closing)["findings"] == []

    def test_one_that_is_seen_again_though_closed_is_open(self, folder: Path) -> None:
        (finding,) = whole(folder, {"problem": "No marker."})["findings"]
        closing = [{"id": finding["id"], "by": "bob", "text": "Firewall opened."}]
        again = whole(folder, {"problem": "No marker."}, begin=100, closed=closing)
        assert [(one["id"], one["status"]) for one in again["findings"]] == [(finding["id"], "open")]

    def test_the_line_that_closed_it_once_does_not_close_it_again(self, folder: Path) -> None:
        (finding,) = whole(folder, {"problem": "No marker."})["findings"]
        closing = [{"id": finding["id"], "by": "bob", "text": "Firewall opened."}]
        whole(folder, {"measured": 1.0}, begin=100, closed=closing)
        whole(folder, {"problem": "No marker."}, begin=200)
        whole(folder, {"problem": "No marker."}, begin=250, closed=closing)
        (still,) = whole(folder, {"measured": 1.0}, begin=300, closed=closing)["findings"]
        assert still["status"] == "open"
        another = [{**closing[0], "id": still["id"], "text": "And now for good."}]
        assert whole(folder, {"measured": 1.0}, begin=400, closed=another)["findings"][0]["status"] == "closed"

    def test_another_marker_is_the_same_finding_and_another_snapshot_is_not(self, folder: Path) -> None:
        (finding,) = whole(folder, {"problem": "The line marker-0123456789abcdef is not in two."})["findings"]
        (again,) = whole(folder, {"problem": "The line marker-fedcba9876543210 is not in two."}, begin=100)["findings"]
        assert again["id"] == finding["id"]
        assert "fedcba" in again["text"]
        both = ["Snapshot a-20261127T080000Z.snap was damaged.", "Snapshot a-20261127T070000Z.snap was damaged."]
        assert len(whole(folder, {"measured": 1.0, "findings": both}, begin=200)["findings"]) == 3

    def test_a_missed_objective_is_one_finding_however_often(self, folder: Path) -> None:
        (finding,) = whole(folder, {"measured": 31.0})["findings"]
        assert whole(folder, {"measured": 47.0}, begin=100)["findings"] == [finding]

    def test_two_of_one_drill_are_told_apart(self, folder: Path) -> None:
        found = whole(folder, {"measured": 1.0, "findings": ["Snapshot b was damaged.", "Snapshot c, too."]})
        assert [one["id"] for one in found["findings"]] == ["F-20261127T090000Z-1", "F-20261127T090000Z-2"]
        assert found["verdict"] == "passed"

    def test_one_that_is_not_there(self, folder: Path) -> None:
        with pytest.raises(DrillError, match=r"no finding F-20261127T090000Z-9 to be closed. Open are: none"):
            Drill(folder).begin(about(), [{"id": "F-20261127T090000Z-9", "by": "bob", "text": "x"}], START)


def test_a_tampered_folder_takes_no_new_drill(folder: Path) -> None:
    whole(folder, {"problem": "No marker."})
    file = folder / "drill-20261127T090000Z.json"
    file.write_text(file.read_text().replace('"failed"', '"passed"'))
    with pytest.raises(DrillError, match=r"not what they were: drill-20261127T090000Z.json was changed"):
        Drill(folder).begin(about(), [], at(100))


def test_the_record_says_what_was_drilled_and_when_it_was_allowed(folder: Path) -> None:
    told = whole(folder, {"measured": 1.0}, environment="production", window="2026-11-27T08:00Z to 2026-11-27T10:00Z")
    assert (told["environment"], told["window"][:10]) == ("production", "2026-11-27")


def test_files_are_private(folder: Path) -> None:
    whole(folder, {"measured": 1.0})
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_clock_that_was_set_back_takes_no_new_drill(folder: Path) -> None:
    whole(folder, {"measured": 1.0}, begin=100)
    with pytest.raises(DrillError, match="Set this machine's clock"):
        Drill(folder).begin(about(), [], at(50))


def test_check_mode_writes_nothing(folder: Path) -> None:
    drill = Drill(folder, writes=False)
    drill.begin(about(), [], START)
    drill.begin_phase("logs", "Logs", OBJECTIVE, at(1))
    drill.end_phase("logs", {"measured": 1.0}, at(2))
    drill.end(None, at(3))
    assert not folder.exists()


def test_a_phase_that_has_not_begun(folder: Path) -> None:
    drill = Drill(folder)
    with pytest.raises(DrillError, match="No drill has begun"):
        drill.end_phase("logs", {}, START)
    drill.begin(about(), [], START)
    with pytest.raises(DrillError, match="The phase logs has not begun"):
        drill.end_phase("logs", {}, START)


def test_metrics(folder: Path) -> None:
    whole(folder, {"measured": 1.0})
    whole(folder, {"problem": "No marker."}, begin=100)
    whole(folder, {}, begin=200, mode="rehearsal", scope=["logs", "vault"])
    lines = metrics(chain.read(folder)).splitlines()
    assert f'custodes_drill_last_passed_timestamp_seconds{{part="logs"}} {at(11).timestamp():.0f}' in lines
    assert 'custodes_drill_last_passed_timestamp_seconds{part="vault"} 0' in lines, "it has only been rehearsed"
    assert f"custodes_drill_last_run_timestamp_seconds {at(111).timestamp():.0f}" in lines
    assert "custodes_drill_open_findings 1" in lines
    assert "custodes_drill_last_passed_timestamp_seconds 0" in metrics([])


def test_a_part_that_is_given_up_has_no_metric(folder: Path) -> None:
    whole(folder, {"measured": 1.0})
    whole(folder, {}, begin=201 * 86400, scope=["vault"], mode="rehearsal")
    told = metrics(chain.read(folder))
    assert 'part="vault"' in told
    assert 'part="logs"' not in told
