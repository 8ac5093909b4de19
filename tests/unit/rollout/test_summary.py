# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The summary of a roll-out: what its table says first, what is on file, and who is left to do."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase
from ansible_collections.custodes.security_dr.plugins.action import host_detection_summary as plugin
from ansible_collections.custodes.security_dr.plugins.module_utils.files import read_json
from ansible_collections.custodes.security_dr.plugins.module_utils.rollout import summary
from ansible_collections.custodes.security_dr.plugins.modules import host_detection_summary as documented
from unit.modules.runner import taken, told

NOW = datetime(2026, 3, 1, 10, 0, tzinfo=timezone.utc)
EVERY = ["app-1", "app-2", "app-3", "app-4"]


def good(high: int = 0, **more: Any) -> dict[str, Any]:
    counts = {"critical": 0, "high": high, "medium": 0, "low": 0, "info": 1}
    return {"changed": True, "version": "0.2.0", "baseline": {"state": "written"}, "counts": counts, **more}


RESULTS: dict[str, dict[str, Any]] = {
    "app-1": good(),
    "app-2": {"failed": True, "msg": "\nThe first run failed: no room\nThe journal ends so:"},
    "app-3": {"unreachable": True, "changed": False, "msg": "Failed to connect"},
    "app-4": good(high=2, blind=["x"]),
}


def batch(*hosts: str) -> summary.Batch:
    return summary.Batch(hosts, EVERY, {host: RESULTS[host] for host in hosts})


def names(folder: Path) -> list[str]:
    return (folder / summary.UNFINISHED).read_text().split()


def test_batch_by_batch(tmp_path: Path) -> None:
    first = summary.add(tmp_path, batch("app-1"), NOW)
    assert first["reasons"] == {}
    assert "4 hosts: 1 done (1 changed), 0 failed, 0 unreachable, 3 not tried yet. Findings: 1 info." in first["table"]
    assert names(tmp_path) == ["app-2", "app-3", "app-4"]
    second = summary.add(tmp_path, batch("app-2", "app-3"), NOW)
    assert second["reasons"] == {"app-2": "The first run failed: no room", "app-3": "Failed to connect"}
    third = summary.add(tmp_path, batch("app-4"), NOW)
    assert third["table"] == [
        "HOST   STATE        VERSION  BASELINE  CRITICAL  HIGH  MEDIUM  LOW  INFO  BLIND",
        "app-2  failed       -        -         -         -     -       -    -     -  The first run failed: no room",
        "app-3  unreachable  -        -         -         -     -       -    -     -  Failed to connect",
        "app-4  changed      0.2.0    written   0         2     0       0    1     1",
        "app-1  changed      0.2.0    written   0         0     0       0    1     0",
        "",
        "4 hosts: 2 done (2 changed), 1 failed, 1 unreachable, 0 not tried yet. Findings: 2 high, 2 info.",
        "",
        f"All of it: {tmp_path / 'summary.json'}",
        f"The rest: --limit @{tmp_path / 'unfinished'}",
    ]
    assert names(tmp_path) == ["app-2", "app-3"]
    on_file = read_json(tmp_path / summary.SUMMARY)
    assert on_file["updated"] == "2026-03-01T10:00:00Z"
    assert {host: one["state"] for host, one in on_file["hosts"].items()} == {
        "app-1": "changed",
        "app-2": "failed",
        "app-3": "unreachable",
        "app-4": "changed",
    }
    # What comes next is another roll-out: that of the rest.
    rest = summary.Batch(["app-2"], ["app-2", "app-3"], {"app-2": good()})
    summary.add(tmp_path, rest, NOW)
    assert list(read_json(tmp_path / summary.SUMMARY)["hosts"]) == ["app-2"]
    assert names(tmp_path) == ["app-3"]


def test_a_large_fleet_shows_its_trouble(tmp_path: Path) -> None:
    hosts = [f"h{number:04}" for number in range(1000)]
    results = {host: good() for host in hosts[:-1]}
    results[hosts[-1]] = RESULTS["app-2"]
    lines = summary.add(tmp_path, summary.Batch(hosts, hosts, results), NOW)["table"]
    assert lines[1].startswith("h0999  failed")
    assert f"and {1000 - summary.ROWS} more, none of them in a worse state" in lines
    assert len(lines) < summary.ROWS + 10


def test_a_host_that_registered_nothing_has_failed(tmp_path: Path) -> None:
    told = summary.add(tmp_path, summary.Batch(["a"], ["a"], {"a": None}), NOW)
    assert told["reasons"] == {"a": "The task has not run."}


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = summary.add(tmp_path / "file" / "below", batch("app-1"), NOW)
    assert told["reasons"] == {}
    assert told["table"][-1].startswith("This is not on file. Cannot make ")


def test_a_damaged_file_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / summary.SUMMARY).write_text("{")
    summary.add(tmp_path, batch("app-4"), NOW)
    assert list(read_json(tmp_path / summary.SUMMARY)["hosts"]) == ["app-4"]


def task(check: bool = False, **options: Any) -> dict[str, Any]:
    fake = SimpleNamespace(args=options, check_mode=check, async_val=0, diff=False)
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
    variables = {
        "ansible_play_batch": ["app-1", "app-2"],
        "ansible_play_hosts_all": EVERY,
        "hostvars": {host: {"__host_detection_result": result} for host, result in RESULTS.items()},
    }
    result: dict[str, Any] = plugin.ActionModule(fake, connection, None, None, None, None).run(task_vars=variables)
    return result


@pytest.mark.parametrize("check", [True, False])
def test_the_plugin(tmp_path: Path, check: bool) -> None:
    result = task(check, directory=str(tmp_path / "rollout"))
    assert result["changed"] is False
    assert "failed" not in result, "for Ansible that would be a task that failed"
    assert result["reasons"] == {"app-2": "The first run failed: no room"}
    assert (tmp_path / "rollout").exists() is not check


def test_options_are_those_that_are_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Any] = {}
    plain = ActionBase.validate_argument_spec

    def keep(self: Any, argument_spec: Any = None, **more: Any) -> Any:
        kept.update(argument_spec)
        return plain(self, argument_spec, **more)

    monkeypatch.setattr(ActionBase, "validate_argument_spec", keep)
    task(True, directory=str(tmp_path))
    assert told(documented.DOCUMENTATION) == taken(kept)
