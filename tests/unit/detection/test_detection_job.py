# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole run on a small tree that stands for a host: what it records, and what it says when something is amiss."""

from __future__ import annotations

import errno
import functools
import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.agent import cli, detect
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import (
    baseline,
    delivery,
    job,
    listeners,
    processes,
    programs,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.errors import DetectionError
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.memory import Memory
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.settings import Settings
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.transport import Answer
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.lock import BusyError, locked

NOW = 1_800_000_000.0


class Host:
    """A tree with a folder of cron jobs, and runs on it five minutes apart."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.root = folder / "root"
        for path in ("etc/cron.d", "proc/1", "proc/self", "proc/net", "proc/sys/net/ipv4"):
            (self.root / path).mkdir(parents=True)
        (self.root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
        (self.root / "etc/cron.d/backup").write_text("0 3 * * * root backup\n")
        (self.root / "proc/sys/net/ipv4/ip_local_port_range").write_text("32768\t60999\n")
        (self.root / "proc/self/mountinfo").write_text("")
        (self.root / "proc/1/stat").write_text(f"1 (init) S 0 {' '.join(['0'] * 48)}\n")
        (self.root / "proc/1/cmdline").write_bytes(b"/sbin/init\0")
        (self.root / "proc/1/exe").symlink_to("/usr/sbin/init")
        for name in ("tcp", "tcp6", "udp", "udp6"):
            (self.root / "proc/net" / name).write_text("  sl  local_address\n")
        self.config = {
            "state_directory": str(folder / "state"),
            "log_directory": str(folder / "log"),
            "metrics_file": str(folder / "host_detection.prom"),
            **config,
        }
        self.state, self.log, self.metrics = folder / "state", folder / "log", folder / "host_detection.prom"
        self.baseline, self.memory = self.state / "baseline.json", self.state / "memory.json"
        self.now = NOW

    @property
    def settings(self) -> Settings:
        return Settings.from_config(self.config, self.now, "1.2.3")

    def run(self) -> dict[str, Any]:
        self.now += 300
        return job.run(self.settings, "1.2.3", lambda: self.now, str(self.root))

    def told(self) -> list[tuple[str, str]]:
        path = self.log / "alerts.log"
        events = [json.loads(line) for line in path.read_text().splitlines()]
        return [(event["state"], event["rule"]) for event in events]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def rules(report: dict[str, Any]) -> set[str]:
    return {finding["rule"] for finding in report["findings"]}


def test_the_first_run_writes_the_baseline_and_says_so(host: Host) -> None:
    report = host.run()
    assert report["baseline"]["state"] == "written"
    assert report["problem"] is None
    assert host.told() == [("new", "baseline.written")]
    assert host.baseline.stat().st_mode & 0o777 == 0o600
    assert "baseline written" in (host.log / "degraded-mode.log").read_text()


def test_a_clean_host_is_silent_over_ten_runs(host: Host) -> None:
    reports = [host.run() for _number in range(10)]
    assert host.told() == [("new", "baseline.written")]
    assert {report["baseline"]["state"] for report in reports[1:]} == {"compared"}
    assert len((host.log / "degraded-mode.log").read_text().splitlines()) == 10


def test_a_new_job_is_told_once_and_its_end_too(host: Host) -> None:
    host.run()
    job_file = host.root / "etc/cron.d/x"
    job_file.write_text("* * * * * root /tmp/x\n")
    reports = [host.run(), host.run()]
    job_file.unlink()
    reports.append(host.run())
    assert host.told()[1:] == [("new", "schedule.cron"), ("resolved", "schedule.cron")]
    assert [report["counts"]["high"] for report in reports] == [1, 1, 0]


def test_an_allowed_finding_is_none_until_the_entry_expires(tmp_path: Path) -> None:
    entry = {"rule": "schedule.*", "subject": "/etc/cron.d/x", "reason": "tried out", "expires": "2027-01-15"}
    host = Host(tmp_path, allow=[entry])
    host.run()
    (host.root / "etc/cron.d/x").write_text("* * * * * root x\n")
    assert rules(host.run()) == {"baseline.written"}
    host.now += 86400
    assert rules(host.run()) == {"baseline.written", "schedule.cron", "allowlist.expired"}


@pytest.mark.parametrize(("damage", "rule"), [("missing", "baseline.missing"), ("damaged", "baseline.damaged")])
def test_a_baseline_that_is_gone_or_changed_later_is_a_finding_and_is_not_replaced(
    host: Host, damage: str, rule: str
) -> None:
    host.run()
    path = host.baseline
    path.unlink()
    if damage == "damaged":
        path.write_text("{}")
        path.chmod(0o600)
    reports = [host.run(), host.run()]
    assert [report["baseline"]["state"] for report in reports] == [damage, damage]
    assert rule in rules(reports[1])
    assert ("new", rule) in host.told()
    assert not path.exists() or path.read_text() == "{}"


def test_what_had_changed_does_not_end_when_the_baseline_is_gone(host: Host) -> None:
    host.run()
    (host.root / "etc/cron.d/x").write_text("* * * * * root x\n")
    host.run()
    kept = host.baseline.read_bytes()
    host.baseline.unlink()
    (host.root / "etc/ld.so.preload").write_text("/tmp/x.so\n")
    assert {"schedule.cron", "baseline.missing", "persistence.ld_preload"} <= rules(host.run())
    host.baseline.write_bytes(kept)
    host.baseline.chmod(0o600)
    assert "baseline.missing" not in rules(host.run())
    assert ("resolved", "schedule.cron") not in host.told()
    assert host.told().count(("new", "persistence.ld_preload")) == 1


def test_a_memory_that_is_gone_with_the_baseline_still_there_is_no_first_run(host: Host) -> None:
    host.run()
    (host.root / "etc/cron.d/x").write_text("* * * * * root x\n")
    host.memory.unlink()
    report = host.run()
    assert report["baseline"]["state"] == "compared"
    assert "schedule.cron" in rules(report)


def test_a_scanner_that_fails_is_blind_and_the_others_look(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.run()
    (host.root / "etc/cron.d/x").write_text("* * * * * root x\n")

    def broken(*_arguments: object) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr(processes, "scan", broken)
    report = host.run()
    assert {"scan.blind", "schedule.cron"} <= rules(report)
    assert "IndexError" in report["blind"][0]


def test_a_log_that_cannot_be_written_is_a_problem_and_loses_nothing(host: Host) -> None:
    host.run()
    folder = host.log
    (host.root / "etc/cron.d/x").write_text("* * * * * root x\n")
    folder.chmod(0o777)
    report = host.run()
    assert "0700" in report["problem"]
    assert "host_detection_last_run_success 0" in host.metrics.read_text()
    folder.chmod(0o700)
    assert host.run()["problem"] is None
    assert ("new", "schedule.cron") in host.told()


def test_a_memory_that_cannot_be_written_keeps_nothing_from_being_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever fills the disk of a host would have it silent else."""
    destination = {"name": "chat", "type": "slack", "url": "https://chat.example.com/x"}
    host = Host(tmp_path, delivery={"when": "always", "destinations": [destination]})
    bodies: list[str] = []

    def post(_url: str, body: bytes, *_rest: Any) -> Answer:
        bodies.append(body.decode())
        return Answer(200)

    monkeypatch.setattr(delivery, "deliver", functools.partial(delivery.deliver, post=post))
    host.run()
    (host.root / "etc/cron.d/x").write_text("* * * * * root x\n")

    def full(*_given: Any, **_options: Any) -> None:
        raise StoreError("Cannot write memory.json: No space left on device.")

    with monkeypatch.context() as patched:
        patched.setattr(Memory, "save", full)
        report = host.run()
    assert report["problem"] == "Cannot write memory.json: No space left on device."
    assert "schedule.cron" in rules(report)
    assert "schedule.cron" in "".join(bodies)
    assert ("new", "schedule.cron") not in host.told()  # the next run would log it once more
    assert "host_detection_last_run_success 0" in host.metrics.read_text()
    assert host.run()["problem"] is None
    assert host.told().count(("new", "schedule.cron")) == 1


def test_a_run_that_cannot_begin_tells_prometheus(host: Host) -> None:
    host.run()
    (host.state / "run.lock").unlink()
    (host.state / "run.lock").mkdir()
    with pytest.raises(StoreError, match=r"run\.lock"):
        host.run()
    assert "host_detection_last_run_success 0" in host.metrics.read_text()


def test_another_run_under_way_is_no_failure_for_prometheus(host: Host) -> None:
    host.run()
    with locked(host.state, "scan"), pytest.raises(BusyError):
        host.run()
    assert "host_detection_last_run_success 1" in host.metrics.read_text()


def test_an_alert_log_that_was_cut_is_a_finding(host: Host) -> None:
    host.run()
    (host.log / "alerts.log").write_text("")
    assert "log.tampered" in rules(host.run())


def test_a_scan_by_hand_changes_nothing(host: Host) -> None:
    host.run()
    (host.root / "etc/cron.d/x").write_text("* * * * * root x\n")
    before = {path: path.read_bytes() for path in host.state.iterdir()}
    report = job.preview(host.settings, "1.2.3", lambda: host.now, str(host.root))
    assert "schedule.cron" in rules(report)
    assert before == {path: path.read_bytes() for path in host.state.iterdir()}
    assert len(host.told()) == 1


def test_a_scan_by_hand_before_the_first_run_writes_no_baseline(host: Host) -> None:
    report = job.preview(host.settings, "1.2.3", lambda: host.now, str(host.root))
    assert report["baseline"] == {"state": "none"}
    assert not host.state.exists()


def test_the_last_report_is_that_of_the_last_run(host: Host) -> None:
    assert job.last(host.settings) == {}
    report = host.run()
    assert job.last(host.settings) == json.loads(json.dumps(report))


def test_a_damaged_memory_is_not_taken_for_a_host_that_never_ran(host: Host) -> None:
    host.run()
    host.memory.write_bytes(b"")
    with pytest.raises(DetectionError, match=r"memory\.json.*checksum"):
        job.last(host.settings)


def test_a_question_that_waits_for_its_answer_stops_no_scan(host: Host) -> None:
    host.run()
    (host.root / "etc/cron.d/x").write_text("* * * * * root x\n")
    assert job.rebaseline(host.settings, host.now, lambda _lines: bool(host.run()), str(host.root)) is not None


def test_two_scans_do_not_run_at_once(host: Host) -> None:
    host.run()
    with locked(host.state, "scan"), pytest.raises(BusyError, match="Another scan"):
        host.run()


def test_a_new_baseline_tells_every_change_first_and_nothing_is_changed_without_a_yes(host: Host) -> None:
    host.run()
    (host.root / "etc/cron.d/x").write_text("* * * * * root x\n")
    (host.root / "etc/cron.d/backup").unlink()
    shown: list[str] = []
    before = host.baseline.read_bytes()
    refused = job.rebaseline(host.settings, host.now, lambda lines: bool(shown.extend(lines)), str(host.root))
    assert refused is None
    assert [line.split(":")[0] for line in shown] == ["A cron job was deleted", "A cron job was added"]
    assert host.baseline.read_bytes() == before
    assert job.rebaseline(host.settings, host.now + 60, lambda _lines: True, str(host.root)) is not None
    assert set(baseline.load(host.baseline).items) >= {"/etc/cron.d/x"}
    assert rules(host.run()) == {"baseline.written"}
    assert host.told() == [("new", "baseline.written"), ("new", "baseline.written")]


def command(host: Host, *arguments: str) -> tuple[int, str, str]:
    path = host.root / "detect.json"
    path.write_text(json.dumps(host.config))
    out, err = io.StringIO(), io.StringIO()
    code = cli.main(["detect", "--config", str(path), *arguments], {}, out, err)
    return code, out.getvalue(), err.getvalue()


def test_the_command_judges_a_configuration(host: Host) -> None:
    assert command(host, "--check-config")[0] == 0
    host.config["listeners"] = {"alowed": []}
    code, _out, err = command(host, "--check-config")
    assert code == 2
    assert "has no option alowed" in err


def test_no_metrics_may_be_an_empty_text(host: Host) -> None:
    """As an operator's template may give none."""
    host.config["metrics_file"] = ""
    assert host.settings.metrics_file is None


def test_the_command_asks_for_root(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, _out, err = command(host)
    assert code == 2
    assert "as root" in err


@pytest.mark.parametrize(
    ("report", "code"),
    [
        ({"findings": [], "blind": []}, 0),
        ({"findings": [{"severity": "low"}], "blind": []}, 0),
        ({"findings": [{"severity": "medium"}], "blind": []}, 1),
        ({"findings": [], "blind": ["a folder"]}, 1),
    ],
)
def test_a_scan_by_hand_ends_with_1_for_what_matters(
    host: Host, monkeypatch: pytest.MonkeyPatch, report: dict[str, Any], code: int
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(job, "preview", lambda *_arguments, **_options: report)
    assert command(host, "--json")[0] == code


def test_what_the_child_cannot_give_is_looked_for_here(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process under a miner's name is found when there is no child, and when it dies."""
    host.run()
    (host.root / "proc/1/comm").write_text("xmrig\n")

    def none(*_arguments: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(programs, "Child", none)
        assert "process.miner_name" in rules(host.run())
    parent, scan = os.getpid(), listeners.scan

    def scan_here(*given: Any) -> Any:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return scan(*given)

    monkeypatch.setattr(listeners, "scan", scan_here)
    assert {finding["state"] for finding in host.run()["findings"] if "miner" in finding["rule"]} == {"ongoing"}


def test_the_service_line_is_read_as_argparse_reads_it() -> None:
    line = ["detect", "--run", "--config", "/etc/x.json"]
    quick = detect.Detect.of_service(line)
    assert quick is not None
    assert vars(quick) == vars(cli._parsed(line))
    for other in (["detect"], ["detect", "--run"], [*line, "--json"], ["detect", "--last", "--config", "x"]):
        assert detect.Detect.of_service(other) is None


def test_the_version_is_the_collection_s() -> None:
    galaxy = Path(__file__).parents[3] / "galaxy.yml"
    assert f"version: {detect.VERSION}\n" in galaxy.read_text()
