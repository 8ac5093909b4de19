# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's service on a host in a folder: what is there after it, what it refuses, and what a kill leaves behind."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.agent import service, wanted, zipapp
from ansible_collections.custodes.security_dr.plugins.module_utils.agent.errors import ServiceError
from unit.agent.fake_host import CONFIG, CREDENTIALS, SERVICE, TIMER, UNITS, FakeHost, Killed, age

AGENT, CONFIG_FILE = "/usr/local/bin/custodes", "/etc/custodes/detect.json"
SECRET = "/etc/custodes/credentials/chat-url"
CHANGES = ["agent", "credential chat-url", "configuration", f"unit {SERVICE}", f"unit {TIMER}"]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    # What is in the agent is tested elsewhere, and takes 50 ms to make.
    monkeypatch.setattr(zipapp, "build", lambda interpreter: f"#!{interpreter} -IS\nagent".encode())
    return FakeHost(tmp_path)


def make(host: FakeHost, *, check: bool = False, **changed: Any) -> service.Service:
    given: dict[str, Any] = {
        "command": "detect",
        "path": AGENT,
        "interpreter": None,
        "config": CONFIG,
        "credentials": CREDENTIALS,
        "units": UNITS,
        **changed,
    }
    return service.Service(wanted.Wanted(**given), host.run, str(host.root), check=check)


class TestPresent:
    def test_four_runs(self, host: FakeHost) -> None:
        before = host.tree()
        foretold = make(host, check=True).present()
        assert host.tree() == before
        assert not any(call.startswith("systemctl") and "show" not in call for call in host.calls)
        done = make(host).present()
        after = host.tree()
        assert foretold.changes == done.changes
        assert foretold.diff == done.diff
        assert (foretold.report, foretold.ran, done.ran) == (None, False, True)
        assert [change for change in done.changes if not change.startswith("folder ")] == [
            *CHANGES,
            "timer enabled",
            "timer started",
        ]
        for check in (True, False):
            host.calls.clear()
            again = make(host, check=check).present()
            assert (again.changes, again.diff, again.ran) == ([], [], False)
            assert again.report == done.report
            assert len(host.calls) == 2, "one question to systemd and one to the agent"
        assert host.tree() == after

    def test_what_is_there_then(self, host: FakeHost) -> None:
        make(host).present()
        for path, mode in ((AGENT, 0o755), (CONFIG_FILE, 0o600), (SECRET, 0o600)):
            assert host.file(path).stat().st_mode & 0o7777 == mode
        assert host.file(f"/etc/systemd/system/{TIMER}").stat().st_mode & 0o7777 == 0o644
        assert host.file("/etc/custodes/credentials").stat().st_mode & 0o7777 == 0o700
        assert host.file("/var/lib/custodes/detection").stat().st_mode & 0o7777 == 0o700
        assert host.file("/var/log/security").stat().st_mode & 0o7777 == 0o700
        assert host.file("/var/lib/metrics").stat().st_mode & 0o7777 == 0o755
        assert json.loads(host.file(CONFIG_FILE).read_text()) == CONFIG
        assert host.file(AGENT).read_text().startswith("#!/usr/bin/python3 -IS\n")
        assert (host.active, host.enabled) == (True, True)
        assert list(host.file("/run").iterdir()) == [host.file("/run/systemd")], "nothing of the rehearsal is left"

    def test_the_rehearsal_comes_first_and_is_whole(self, host: FakeHost) -> None:
        make(host).present()
        order = [
            next(n for n, call in enumerate(host.calls) if part in call) for part in ("--check", "verify", "enable")
        ]
        assert order == sorted(order)
        assert json.loads(host.seen["config"]) == CONFIG
        assert host.seen["credentials"] == "chat-url"
        # The first time systemd would not find the agent.
        assert "ExecStart=/usr/bin/python3 detect" in host.seen["service"]
        make(host, units={**UNITS, SERVICE: UNITS[SERVICE] + "Nice=1\n"}).present()
        assert f"ExecStart={AGENT} detect" in host.seen["service"]

    def test_no_secret_in_what_is_told_or_called(self, host: FakeHost) -> None:
        config = {
            **CONFIG,
            "delivery": {"destinations": [{"name": "a", "url": "https://x/s3cr3t", "token": "s3cr3t2"}]},
        }
        done = make(host, config=config).present()
        told = json.dumps([done.diff, done.changes, host.calls])
        assert "s3cr3t" not in told
        assert wanted.MASK in told
        assert set(wanted.inline_secrets(config)) == {"https://x/s3cr3t", "s3cr3t2"}
        # Where no secret can be, an address is of use.
        assert "https://loki" in wanted.shown({"infrastructure": {"log_store": {"url": "https://loki"}}})

    def test_folders_that_are_there_keep_their_mode(self, host: FakeHost) -> None:
        host.file("/var/log/security").mkdir(parents=True)
        host.file("/var/log/security").chmod(0o750)
        make(host).present()
        assert host.file("/var/log/security").stat().st_mode & 0o7777 == 0o750

    def test_the_interpreter_of_an_agent_that_is_there_stays(self, host: FakeHost) -> None:
        host.file(AGENT).parent.mkdir(parents=True)
        host.file(AGENT).write_text("#!/opt/custodes/venv/bin/python -IS\nolder agent")
        make(host).present()
        assert host.file(AGENT).read_text().startswith("#!/opt/custodes/venv/bin/python -IS\n")
        done = make(host, interpreter="/usr/bin/python3.11").present()
        assert done.changes == ["agent"]
        assert host.file(AGENT).read_text().startswith("#!/usr/bin/python3.11 -IS\n")

    def test_a_mode_that_somebody_changed(self, host: FakeHost) -> None:
        make(host).present()
        host.file(SECRET).chmod(0o644)
        assert make(host).present().changes == ["credential chat-url"]
        assert host.file(SECRET).stat().st_mode & 0o7777 == 0o600

    def test_a_link_is_replaced_and_not_followed(self, host: FakeHost) -> None:
        make(host).present()
        elsewhere = host.file("/elsewhere")
        elsewhere.write_bytes(host.file(CONFIG_FILE).read_bytes())
        elsewhere.chmod(0o600)
        host.file(CONFIG_FILE).unlink()
        host.file(CONFIG_FILE).symlink_to(elsewhere)
        assert make(host).present().changes == ["configuration"]
        assert not host.file(CONFIG_FILE).is_symlink()

    def test_a_credential_without_use_is_removed_but_not_one_of_another_command(self, host: FakeHost) -> None:
        make(host).present()
        host.file("/etc/custodes/snapshot.json").write_text(json.dumps({"vault": {"secret_id_credential": "chat-url"}}))
        without = {"config": {**CONFIG, "delivery": {}}, "credentials": {}}
        assert make(host, **without).present().changes == ["configuration"]
        host.file("/etc/custodes/snapshot.json").unlink()
        make(host).present()
        assert make(host, **without).present().changes == ["configuration", "credential chat-url removed"]
        assert not host.file(SECRET).exists()

    def test_a_credential_that_somebody_else_put_there_is_used(self, host: FakeHost) -> None:
        host.file(SECRET).parent.mkdir(parents=True)
        host.file(SECRET).write_text("by hand")
        make(host, credentials={}).present()
        assert host.seen["credentials"] == "chat-url"
        assert host.file(SECRET).read_text() == "by hand"

    def test_a_timer_that_somebody_stopped_or_changed(self, host: FakeHost) -> None:
        make(host).present()
        host.active = host.enabled = False
        assert make(host).present().changes == ["timer enabled", "timer started"]
        done = make(host, units={**UNITS, TIMER: "[Timer]\nOnCalendar=hourly\n"}).present()
        assert done.changes == [f"unit {TIMER}", "timer restarted"]
        assert host.loaded[TIMER] == "[Timer]\nOnCalendar=hourly\n"

    def test_what_systemd_says_of_the_units_is_a_warning(self, host: FakeHost) -> None:
        line = f"{host.root}/run/custodes-detect.new/units/{TIMER}:3: Unknown key name 'X', ignoring."
        host.says["systemd-analyze"] = f"{line}\n/lib/systemd/system/other.service:1: what is this\n"
        assert make(host).present().warnings == [f"{TIMER}:3: Unknown key name 'X', ignoring."]


class TestVerify:
    def test_a_first_run_that_fails_is_told_with_the_journal(self, host: FakeHost) -> None:
        host.problem = "Cannot write in /var/log/security."
        with pytest.raises(
            ServiceError, match=r"first run failed: Cannot write.*\n.*ends so:\nline of the journal"
        ) as told:
            make(host).present()
        assert f"systemctl start {SERVICE}" in str(told.value)
        assert (host.active, host.enabled) == (True, True)

    def test_a_last_run_that_failed_is_repeated(self, host: FakeHost) -> None:
        host.problem = "x"
        with pytest.raises(ServiceError):
            make(host).present()
        with pytest.raises(ServiceError):
            make(host).present()
        host.problem = None
        done = make(host).present()
        assert (done.changes, done.ran) == ([], True)
        assert make(host).present().ran is False

    def test_one_that_was_killed_is_repeated(self, host: FakeHost) -> None:
        make(host).present()
        host.result = "timeout"
        assert make(host).present().ran is True

    def test_one_from_before_the_last_change_is_repeated(self, host: FakeHost) -> None:
        make(host).present()
        assert host.report is not None
        host.report["started"] = "2026-01-01T00:00:00Z"
        assert make(host).present().ran is True
        os.utime(host.file(CONFIG_FILE), (4e9, 4e9))
        assert make(host).present().ran is True
        age(host, 60)
        os.utime(host.file(CONFIG_FILE), (1e9, 1e9))
        assert make(host).present().ran is False

    def test_one_under_way_is_waited_for(self, host: FakeHost) -> None:
        host.activating = True
        make(host).present()
        assert host.calls.count(f"systemctl start {SERVICE}") == 2

    def test_without(self, host: FakeHost) -> None:
        host.problem = "x"
        done = make(host).present(verify=False)
        assert (done.report, done.ran) == (None, False)
        assert f"systemctl start {SERVICE}" not in host.calls

    def test_no_report_is_no_success(self, host: FakeHost) -> None:
        host.refuses["--last"] = "no run yet"
        with pytest.raises(ServiceError, match="It left no report"):
            make(host).present()


class TestRefusals:
    def unchanged(self, host: FakeHost, match: str, **options: Any) -> None:
        before = host.tree()
        for check in (True, False):
            with pytest.raises(ServiceError, match=match):
                make(host, check=check, **options).present()
            assert host.tree() == before

    def test_a_host_without_systemd(self, host: FakeHost) -> None:
        host.file("/run/systemd/system").rmdir()
        self.unchanged(host, "not started by systemd")

    def test_an_old_python(self, host: FakeHost) -> None:
        host.refuses["sys.version_info"] = "SyntaxError"
        self.unchanged(host, r"/usr/bin/python3 is no Python of 3\.9")

    def test_a_configuration_that_the_agent_refuses(self, host: FakeHost) -> None:
        host.refuses["--check-config"] = f"custodes detect: {host.root}/run/custodes-detect.new/config/new.json: no x"
        self.unchanged(host, r"refuses this configuration: custodes detect: /etc/custodes/detect\.json: no x")

    def test_a_credential_that_is_not_there_is_named_by_its_place(self, host: FakeHost) -> None:
        """And not by where it was looked for in the rehearsal, which is gone by then."""
        missing = f"{host.root}/run/custodes-detect.new/credentials/chat"
        host.refuses["--check-config"] = f"custodes detect: Cannot read {missing}, which url_credential names"
        self.unchanged(host, "Cannot read /etc/custodes/credentials/chat, which url_credential names")

    def test_units_that_systemd_refuses(self, host: FakeHost) -> None:
        host.refuses["systemd-analyze"] = f"{host.root}/run/custodes-detect.new/units/{TIMER}:2: Bad value"
        self.unchanged(host, f"systemd refuses these units: {TIMER}:2: Bad value")

    def test_a_value_that_systemd_would_leave_out(self, host: FakeHost) -> None:
        line = (
            f"{host.root}/run/custodes-detect.new/units/{TIMER}:6: Failed to parse calendar specification, ignoring: x"
        )
        host.says["systemd-analyze"] = f"Cannot find x.device, ignoring\n{line}\n"
        self.unchanged(host, f"systemd refuses these units: {TIMER}:6: Failed to parse")

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"units": {"a.service": ""}}, "one service and one timer"),
            ({"units": {"../a.service": "", "a.timer": ""}}, "cannot be a name"),
            ({"credentials": {"../../shadow": "x"}}, "cannot be a name"),
            ({"credentials": {"a": " "}}, "credential a is empty"),
            ({"command": "a/b"}, "cannot be a name"),
        ],
    )
    def test_options(self, host: FakeHost, options: dict[str, Any], match: str) -> None:
        self.unchanged(host, match, **options)

    def test_two_at_once(self, host: FakeHost) -> None:
        first = make(host)
        with first._scratch(), pytest.raises(ServiceError, match="Another run"):
            make(host).present()
        make(host).present()

    def test_a_configuration_that_holds_a_name_outside_the_folder(self, host: FakeHost) -> None:
        assert wanted.credential_names({"x_credential": "../../shadow", "y_credential": "good"}) == {"good"}


class TestAbsent:
    def absent(self, host: FakeHost, *, purge: bool = False) -> list[str]:
        before = host.tree()
        foretold = make(host, check=True).absent(purge=purge)
        assert host.tree() == before
        done = make(host).absent(purge=purge)
        assert (foretold.changes, foretold.diff) == (done.changes, done.diff)
        after = host.tree()
        for check in (True, False):
            assert make(host, check=check).absent(purge=purge).changes == []
        assert host.tree() == after
        assert (host.active, host.enabled, host.loaded) == (False, False, {})
        return sorted(after)

    @pytest.fixture
    def used(self, host: FakeHost) -> FakeHost:
        make(host).present()
        for path in ("lib/custodes/detection/baseline.json", "lib/metrics/host_detection.prom"):
            host.file(f"/var/{path}").write_text("x")
        for name in ("alerts.log", "alerts.log.1", "degraded-mode.log", "of-others.log"):
            host.file(f"/var/log/security/{name}").write_text("x")
        return host

    def test_what_it_has_found_stays(self, used: FakeHost) -> None:
        assert self.absent(used) == [
            "var/lib/custodes/detection/baseline.json",
            *(
                f"var/log/security/{name}"
                for name in ("alerts.log", "alerts.log.1", "degraded-mode.log", "of-others.log")
            ),
        ]
        assert not used.file("/etc/custodes").exists()

    def test_purge(self, used: FakeHost) -> None:
        assert self.absent(used, purge=True) == ["var/log/security/of-others.log"]
        assert not used.file("/var/lib/custodes").exists()

    def test_another_command_keeps_the_agent_and_its_credential(self, used: FakeHost) -> None:
        other = used.file("/etc/custodes/snapshot.json")
        other.write_text(json.dumps({"vault": {"secret_id_credential": "chat-url"}}))
        left = self.absent(used)
        assert {"usr/local/bin/custodes", SECRET[1:], "etc/custodes/snapshot.json"} <= set(left)

    def test_nothing_is_there(self, host: FakeHost) -> None:
        assert make(host).absent(purge=True).changes == []

    def test_what_is_not_its_own_is_left(self, used: FakeHost) -> None:
        for name in ("notes", "baseline.json.d/file"):
            used.file(f"/var/lib/custodes/detection/{name}").parent.mkdir(exist_ok=True)
            used.file(f"/var/lib/custodes/detection/{name}").write_text("x")
        left = self.absent(used, purge=True)
        assert {"var/lib/custodes/detection/notes", "var/lib/custodes/detection/baseline.json.d/file"} <= set(left)

    def test_the_folders_are_those_of_the_configuration_that_is_there(self, used: FakeHost) -> None:
        config = json.loads(used.file(CONFIG_FILE).read_text())
        used.file(CONFIG_FILE).write_text(json.dumps({**config, "state_directory": "/srv/state"}))
        used.file("/srv/state").mkdir(parents=True)
        used.file("/srv/state/memory.json").write_text("x")
        make(used).absent(purge=True)
        assert not used.file("/srv/state").exists()


class Killer:
    """Ends everything after so many programs, writes and removals; never while `left` is None."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        for owner, name in ((FakeHost, "run"), (wanted.Host, "write"), (service.Service, "_remove")):
            monkeypatch.setattr(owner, name, self._counting(getattr(owner, name)))

    def _counting(self, act: Any) -> Any:
        def acts(*arguments: Any) -> Any:
            result = act(*arguments)
            if self.left is not None:
                self.left -= 1
                if self.left == 0:
                    raise Killed
            return result

        return acts

    def survives(self, after: int, act: Callable[..., Any], **options: Any) -> bool:
        self.left = after
        try:
            act(**options)
        except Killed:
            return False
        finally:
            self.left = None
        return True


def test_killed_at_any_point_the_next_run_completes(
    host: FakeHost, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(host).present()
    killer = Killer(monkeypatch)
    for after in range(1, 60):
        fresh = FakeHost(tmp_path_factory.mktemp("killed"))
        if killer.survives(after, make(fresh).present):
            break
        done = make(fresh).present()
        assert fresh.tree() == host.tree()
        assert (fresh.active, fresh.enabled, fresh.loaded) == (True, True, UNITS)
        assert done.report is not None
    assert 12 < after < 59


def test_an_upgrade_that_was_killed_is_completed(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, host: FakeHost
) -> None:
    newer = {name: f"{content}# newer\n" for name, content in UNITS.items()}
    killer = Killer(monkeypatch)
    for after in range(1, 60):
        fresh = FakeHost(tmp_path_factory.mktemp("killed"))
        make(fresh).present()
        if killer.survives(after, make(fresh, units=newer).present):
            break
        fresh.calls.clear()
        make(fresh, units=newer).present()
        assert (fresh.active, fresh.loaded) == (True, newer), f"killed after {after}"
    assert 5 < after < 59


def test_units_that_systemd_has_not_read_yet(host: FakeHost) -> None:
    make(host).present()
    host.loaded = dict.fromkeys(UNITS, "older")
    assert make(host, check=True).present().changes == ["systemd reloaded", "timer restarted"]
    assert make(host).present().changes == ["systemd reloaded", "timer restarted"]
    assert host.loaded == UNITS
    assert make(host).present().changes == []


def test_a_removal_that_was_killed_is_completed(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, host: FakeHost
) -> None:
    killer = Killer(monkeypatch)
    for after in range(1, 60):
        fresh = FakeHost(tmp_path_factory.mktemp("killed"))
        make(fresh).present()
        fresh.file("/var/lib/metrics/host_detection.prom").write_text("x")
        # With less said than at the installation: what is to go is known from the host.
        if killer.survives(after, make(fresh, config={}, credentials={}).absent, purge=True):
            break
        make(fresh, config={}, credentials={}).absent(purge=True)
        assert fresh.tree() == {}
        assert (fresh.active, fresh.loaded) == (False, {})
    assert 8 < after < 59


def test_what_a_roll_out_is_told() -> None:
    findings = [{"rule": "r", "severity": one, "evidence": "much"} for one in ("low", "critical", "info", "high")] * 5
    told = service.told({"version": "1", "findings": findings, "blind": ["x"] * 30, "counts": {"low": 5}})
    assert [one["severity"] for one in told["findings"]] == ["critical"] * 5 + ["high"] * 5
    assert "evidence" not in told["findings"][0]
    assert (len(told["blind"]), told["baseline"], service.told(None)["version"]) == (10, None, None)
