# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTML page of a recovery: its content, its scale, and that no value of a record is taken for HTML."""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils import playbook_lock as lock
from ansible_collections.custodes.security_dr.plugins.module_utils.files import read_json
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery import process
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.journal import JOURNAL, Journal
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.page import html
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.report import (
    FAILED,
    RECOVERED,
    Ending,
    build_record,
    markdown,
    summary_lines,
    verdict,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.report.page import LONGEST, printable
from hypothesis import given
from hypothesis import strategies as st

START = datetime(2026, 11, 24, 3, 0, tzinfo=timezone.utc)
NODES = [f"https://vault-{number}:8200" for number in (1, 2, 3)]
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def step(name: str, began: float, seconds: float, run: int = 1, **detail: Any) -> dict[str, Any]:
    return {"name": name, "run": run, "started_at": at(began), "seconds": seconds, "detail": detail}


def read(path: str, node: str, kind: str | None = "kv2", problem: str | None = None, **more: Any) -> dict[str, Any]:
    proof = {"path": path, "node": node, "readable": problem is None, "problem": problem, "kind": kind}
    return {"fields": ["value"], "values": None, "lease_id": None, **proof, **more}


DYNAMIC = read(
    "database/creds/readonly", NODES[0], "dynamic", lease_id="database/creds/readonly/L1", lease_revoked=True
)
DATA: dict[str, Any] = {
    "started_at": at(0),
    "nodes": NODES,
    "runs": 1,
    "steps": [
        step("Choose the snapshot", 0, 2, not_used=["prod-newer.snap"]),
        step("Wait for the Raft peers, restore", 2, 8, peers=3.25, leader=NODES[0]),
        step("Survives the loss of a node", 10, 10, problem=""),
    ],
    "restore": "done",
    "readable_at": at(10),
    "server_versions": ["1.21.0"],
    "snapshot": {
        "path": "/recovery/prod-20261124T020000Z.snap",
        "store": "s3://backups/prod",
        "taken_at": "2026-11-24T02:00:00+00:00",
        "index": 4711,
        "sha256": SHA256,
        "size": 48211,
        "manifest": {"cluster_name": "prod", "vault_version": "1.21.0", "taken_by": {"user": "ops", "host": "vault-2"}},
        "rejected": [],
    },
    "checks": [{"name": "every node answers", "result": "passed", "detail": "3 nodes"}],
    "secrets": [*(read("secret/dr/canary", node) for node in NODES), DYNAMIC],
    "dynamic_canaries": ["database/creds/readonly"],
    "redundant": True,
}


class Page(HTMLParser):
    """The text of a page with single spaces, and its tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.raw, self.tags = "", list[tuple[str, dict[str, str | None]]]()
        self.feed(text)
        self.text = " ".join(self.raw.split())

    def handle_data(self, data: str) -> None:
        self.raw += f" {data} "

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def record(status: str = RECOVERED, *, ended: float = 20, objective: float = 900, **changed: Any) -> dict[str, Any]:
    about = {"problem": "The leader refused.", "failed_task": "Restore the snapshot"} if status == FAILED else {}
    ending = Ending(status, objective, 93600, versions={"ansible": "2.19.0"}, **about)
    return build_record(Journal(Path("/x"), {**DATA, **changed}), ending, START + timedelta(seconds=ended))


def page(status: str = RECOVERED, **changed: Any) -> str:
    return Page(html(record(status, **changed), "/var/lib/recovery")).text


def test_recovered() -> None:
    text = page()
    for expected in (
        "Vault recovery of prod",
        "2026-11-24 03:00:00 UTC by",
        "✓ RECOVERED Every canary was readable at every node 10 s after the start. The snapshot was 1 h old.",
        "until every canary was readable at every node 10 s 15 min ✓ met",
        "changes of that time are lost 1 h 1 d 2 h ✓ met",
        "from the start of the first run 20 s - ✓ yes",
        "Wait for the Raft peers, restore 2.0 s 8.0 s peers 3.2 s, leader https://vault-1:8200",
        "Secret vault-1:8200 vault-2:8200 vault-3:8200 secret/dr/canary kv2, fields: value ✓ readable ✓ readable",
        "database/creds/readonly https://vault-1:8200 ✓ issued - yes",
        "prod-20261124T020000Z.snap Store s3://backups/prod Taken at 2026-11-24 02:00:00 UTC Taken by ops on vault-2",
        f"Verified SHA-256 {SHA256}",
        "Not done Nothing was left out.",
        "newer than 2026-11-24 02:00:00 UTC are missing",
        "every node answers ✓ passed 3 nodes",
        "ansible 2.19.0, server 1.21.0",
    ):
        assert expected in text
    assert "Warnings" not in text


def test_failed_names_the_task_the_reason_and_the_next_step() -> None:
    text = page(FAILED, readable_at=None, secrets=[], redundant=None, steps=DATA["steps"][:1], restore="begun")
    assert (
        '✗ FAILED It stopped in the task "Restore the snapshot" after the step "Choose the snapshot", 20 s after the '
        "start. The restore began, and its end is not known. The leader refused. What to do Fix the cause, then run "
        "the same command again within 24 hours."
    ) in text
    assert "are in /var/lib/recovery." in text
    assert "until every canary was readable at every node - 15 min - not measured" in text
    assert "What remains to do" not in text


@pytest.mark.parametrize(
    ("restore", "expected"), [(None, "No snapshot was restored."), ("done", "The snapshot is restored.")]
)
def test_failed_says_how_far_the_restore_came(restore: str | None, expected: str) -> None:
    assert expected in page(FAILED, restore=restore)


def test_failed_before_the_dynamic_canaries_does_not_say_that_none_is_configured() -> None:
    text = page(FAILED, secrets=DATA["secrets"][:3], dynamic_canaries=[])
    assert "The playbook stopped before the dynamic canaries, if any are named" in text
    assert "No dynamic canary was issued" not in text


SKEWED = {**DATA["snapshot"], "taken_at": at(60)}
UNDATED = {**DATA["snapshot"], "taken_at": None}


@pytest.mark.parametrize(
    ("status", "changed", "rto", "rpo", "headline"),
    [
        (RECOVERED, {}, "10 s 15 min ✓ met", "1 h 1 d 2 h ✓ met", "after the start. The snapshot was 1 h old."),
        (RECOVERED, {"snapshot": SKEWED}, "10 s 15 min ✓ met", "- 1 d 2 h - not known: the clocks differ",
         "The age of the snapshot is not known: the clocks differ."),
        (RECOVERED, {"snapshot": UNDATED}, "10 s 15 min ✓ met", "- 1 d 2 h - not known",
         "The age of the snapshot is not known."),
        (RECOVERED, {"snapshot": UNDATED, "secrets": [], "readable_at": None}, "- 15 min - not measured",
         "- 1 d 2 h - not known", "are readable. The age of the snapshot is not known."),
        # Static canaries were readable once, and then a dynamic one or a later run failed.
        (FAILED, {}, "- 15 min - not measured", "1 h 1 d 2 h ✓ met", "The leader refused."),
        (FAILED, {"ended": 901}, "- 15 min ✗ missed, not readable yet", "1 h 1 d 2 h ✓ met", "The leader refused."),
        (FAILED, {"restore": "begun"}, "- 15 min - not measured", "1 h 1 d 2 h - not restored", "The leader refused."),
        (FAILED, {"restore": None, "snapshot": None}, "- 15 min - not measured", "- 1 d 2 h - not measured",
         "No snapshot was restored."),
    ],
)  # fmt: skip
def test_every_form_of_the_record_has_the_same_verdicts(
    status: str, changed: dict[str, Any], rto: str, rpo: str, headline: str
) -> None:
    made = record(status, **changed)
    text = page(status, **changed)
    assert f"until every canary was readable at every node {rto} " in text
    assert f"changes of that time are lost {rpo} " in text
    assert headline in text
    for name, shown in (("rto", rto), ("rpo", rpo)):
        word = verdict(made, name)
        assert shown.endswith(word)
        assert made[f"{name}_met"] is {"met": True, "missed": False}.get(word.split(",")[0])
        assert (made[f"{name}_seconds"] is None) is shown.startswith("- ")
        (line,) = (one for one in summary_lines(made) if f"({name.upper()}): " in one)
        assert word.replace("missed", "MISSED") in line
        assert line.split("): ")[1] in markdown(made)


def test_failed_at_once() -> None:
    text = page(FAILED, steps=[], snapshot=None, checks=[], secrets=[], redundant=None, restore=None, readable_at=None)
    assert "before its first step ended" in text
    assert "No step ended." in text
    assert "Vault recovery of a Vault cluster" in text
    assert "Snapshot None was chosen." in text


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"objective": 5}, "The recovery time objective was missed."),
        ({"snapshot": {**DATA["snapshot"], "taken_at": "2026-11-20T00:00:00+00:00"}}, "The snapshot was older than"),
        ({"redundant": False}, "does not tolerate the loss of a node yet"),
        ({"secrets": []}, "No secret was read."),
        ({"steps": [step("Wait", 0, 1, problem="2 voters of 3")]}, "Step 'Wait': 2 voters of 3"),
        (
            {"snapshot": {**DATA["snapshot"], "manifest": {"flagged": "the index went back"}}},
            "flagged when it was taken: the index went back",
        ),
        (
            {"snapshot": {**DATA["snapshot"], "rejected": [{"store": "s3://b", "name": "n", "problem": "cut short"}]}},
            "A newer snapshot could not be used: s3://b/n: cut short",
        ),
        ({"secrets": [{**DYNAMIC, "lease_revoked": False}]}, "issued by database/creds/readonly was not revoked"),
    ],
)
def test_warnings(changed: dict[str, Any], expected: str) -> None:
    text = page(**changed)
    assert "! RECOVERED with " in text
    assert expected in text


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"checks": [{"name": "space", "result": "not checked", "detail": "unknown"}]}, "Not checked: space (unknown)"),
        ({"secrets": DATA["secrets"][:3], "dynamic_canaries": []}, "No dynamic canary was issued (vault_recovery_dyn"),
        ({"secrets": DATA["secrets"][:3]}, "The dynamic canaries were not issued: database/creds/readonly."),
        ({"redundant": None}, "did not ask whether the cluster tolerates"),
    ],
)
def test_not_done(changed: dict[str, Any], expected: str) -> None:
    text = page(**changed)
    assert expected in text
    assert "Nothing was left out" not in text


def test_a_canary_that_one_node_cannot_read() -> None:
    secrets = [read("secret/a", NODES[0]), read("secret/a", NODES[1], None, "permission denied"), read("b", NODES[1])]
    text = page(secrets=secrets, readable_at=None)
    assert "b kv2, fields: value - not read ✓ readable secret/a" in text
    assert "✓ readable ✗ not readable permission denied" in text


def test_a_dynamic_canary_that_was_not_issued_is_listed_as_one() -> None:
    secrets = [read("database/creds/readonly", NODES[0], None, "the database refused")]
    text = page(secrets=secrets, dynamic_canaries=["/database/creds/readonly/"], readable_at=None)
    assert "database/creds/readonly https://vault-1:8200 ✗ not issued the database refused" in text
    assert "Canaries at every node None was read." in text


def test_no_secret_is_shown() -> None:
    secrets = [read("secret/a", NODES[0], values={"value": "hunter2"}), {**DYNAMIC, "values": {"password": "hunter2"}}]
    written = html(record(secrets=secrets), "/x")
    assert "hunter2" not in written
    assert "readonly/L1" not in written


def bars(written: str) -> list[tuple[str | None, float, float]]:
    (drawing,) = re.findall(r"<svg.*?</svg>", written)
    root = ElementTree.fromstring(drawing)  # noqa: S314
    rects = [one for one in root if (one.tag or "").endswith("rect")]
    return [(one.get("class"), float(one.get("x", "0")), float(one.get("width", "0"))) for one in rects]


def test_the_timeline_is_to_scale() -> None:
    drawn = bars(html(record(), "/x"))
    assert [kind for kind, _x, _width in drawn] == ["passed"] * 3
    (_one, left, choose), (_two, begin, restore), (_three, _x, redundant) = drawn
    assert (restore, redundant, begin - left) == pytest.approx((4 * choose, 5 * choose, choose), abs=0.2)


def test_the_timeline_shows_where_a_run_stopped_and_the_time_between_runs() -> None:
    steps = [step("One", 0, 1), step("Two", 8, 1, run=2, problem="slow")]
    drawn = bars(html(record(FAILED, ended=10, runs=2, steps=steps, readable_at=None), "/x"))
    assert [kind for kind, _x, _width in drawn] == ["passed", "skipped", "aborted", "failed"]
    assert drawn[1][2] == pytest.approx(7 * drawn[0][2], abs=0.5)


def test_it_loads_nothing() -> None:
    written = html(record(), "/x")
    assert {tag for tag, _attrs in Page(written).tags} & {"script", "link", "img", "iframe", "object", "a"} == set()
    assert not re.search(r"url\(|@import|src=", written)


@given(st.text(min_size=1))
def test_no_value_is_taken_for_html(text: str) -> None:
    hostile = f"</td></pre><script>alert(1)</script>{text}<img src=x onerror=y>\" onload='z' \u202e\ud800"
    secrets = [
        {**read(hostile, hostile, hostile, hostile), "fields": [hostile]},
        {**DYNAMIC, "path": hostile, "node": hostile},
    ]
    manifest = {
        "cluster_name": {hostile: hostile},
        "vault_version": [hostile],
        "taken_by": {"user": hostile},
        "flagged": hostile,
    }
    given_record = {
        **record(FAILED),
        "problem": hostile,
        "failed_task": hostile,
        "operator": hostile,
        "nodes": [hostile],
        "versions": {hostile: hostile},
        "safety_snapshot": hostile,
        "snapshot": {**DATA["snapshot"], "path": hostile, "store": hostile, "sha256": hostile, "manifest": manifest},
        "rejected_snapshots": [{"path": hostile, "problem": hostile}],
        "checks": [{"name": hostile, "result": hostile, "detail": hostile}],
        "secrets": secrets,
        "steps": [{**step(hostile, 0, 1), "detail": {hostile: hostile, "problem": hostile}}],
    }
    written = html(given_record, hostile)
    tags = Page(written).tags
    assert {tag for tag, _attrs in tags} & {"script", "img"} == set()
    assert not any(name.startswith("on") for _tag, attrs in tags for name in attrs)
    assert "\u202e" not in written.encode().decode()


@pytest.mark.parametrize("value", ["\x00", "\x1b[2J", "\u202e", "\ud800", "\u2066", "\x85"])
def test_printable(value: str) -> None:
    assert printable(f"a{value[0]}b\n\tc") == "a\N{REPLACEMENT CHARACTER}b\n\tc"


def test_a_long_value_is_cut() -> None:
    assert printable("x" * LONGEST) == "x" * LONGEST
    assert printable("x" * (LONGEST + 1)) == "x" * LONGEST + " …"


class TestPageThatCannotBeWritten:
    @pytest.fixture
    def recovery(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> process.Recovery:
        monkeypatch.setattr(lock, "current_holder", lambda: lock.Holder(os.getpid(), "now", "controller", "root"))
        recovery = process.Recovery(tmp_path, writes=True)
        recovery.start(NODES, START)
        return recovery

    def ended(self, recovery: process.Recovery, status: str) -> dict[str, Any]:
        recovery.step(process.PROOF, {}, {}, START + timedelta(seconds=10))
        return recovery.end(Ending(status, 900, problem="a\ud800b"), START + timedelta(seconds=20))

    @pytest.mark.parametrize("status", [RECOVERED, FAILED])
    def test_changes_no_outcome(
        self, recovery: process.Recovery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str
    ) -> None:
        (tmp_path / "recovery-20261124T030020Z.html").mkdir()
        result = self.ended(recovery, status)
        assert [Path(name).suffix for name in result["record_files"]] == [".json", ".md"]
        assert read_json(Path(result["record_files"][0]))["status"] == status
        (warning,) = result["warnings"]
        assert "Cannot write the HTML page of the recovery" in warning
        assert "Is a directory" in warning
        assert (tmp_path / JOURNAL).exists() is (status == FAILED)
        monkeypatch.setattr(lock, "current_holder", lambda: lock.Holder(os.getpid(), "now", "controller", "alice"))
        recovery.start(NODES, START + timedelta(seconds=60))

    def test_nor_does_a_template_that_fails(self, recovery: process.Recovery, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(_record: Any, _directory: str) -> str:
            raise ImportError("No module named 'jinja2'")

        monkeypatch.setattr(process, "html", broken)
        result = self.ended(recovery, RECOVERED)
        assert "No module named 'jinja2'" in result["warnings"][0]
        assert not result.get("failed")

    def test_a_value_that_is_not_unicode_is_written(self, recovery: process.Recovery) -> None:
        result = self.ended(recovery, FAILED)
        assert [Path(name).suffix for name in result["record_files"]] == [".json", ".md", ".html"]
        assert "warnings" not in result
        assert "a\N{REPLACEMENT CHARACTER}b" in Path(result["record_files"][2]).read_text(encoding="utf-8")
