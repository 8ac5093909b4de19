# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults: nothing is injected without a dead man's switch, none is believed without a look, and each ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.drill import fault as faults
from ansible_collections.custodes.security_dr.plugins.module_utils.drill.errors import DrillError
from ansible_collections.custodes.security_dr.plugins.module_utils.drill.fault import Injector, of_unit

LOKI = of_unit("logs", "loki.service")


class Host:
    """A host with one unit, and a clock that only sleep moves."""

    def __init__(self) -> None:
        self.active = True
        self.ran: list[str] = []
        self.broken: set[str] = set()
        self.deaf: set[str] = set()
        self.time = datetime(2026, 11, 27, 9, tzinfo=timezone.utc)

    def run(self, argv: Sequence[str]) -> tuple[int, str]:
        command = " ".join(argv[:2])
        self.ran.append(command)
        if command in self.broken:
            return 1, "Failed: access denied."
        if command == "systemctl stop" and "loki" in argv[2] and command not in self.deaf:
            self.active = False
        if command == "systemctl start" and command not in self.deaf:
            self.active = True
        if command == "systemctl is-active":
            return (0 if self.active else 3), ""
        return 0, ""

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)

    def injector(self, folder: Path) -> Injector:
        return Injector(folder, self.run, lambda: self.time, self.sleep, systemd=True)


@pytest.fixture
def host() -> Host:
    return Host()


def test_armed_before_it_is_injected_and_seen(host: Host, tmp_path: Path) -> None:
    told = host.injector(tmp_path).inject(LOKI, 600, 5)
    assert host.ran == ["systemctl is-active", "systemd-run --quiet", "systemctl stop", "systemctl is-active"]
    assert told["changed"] is True
    assert told["fault"]["what"] == "systemctl stop loki.service"
    assert told["fault"]["confirmed"] == "2026-11-27T09:00:00.000Z"
    assert told["fault"]["undone"] is None


def test_again_changes_nothing(host: Host, tmp_path: Path) -> None:
    first = host.injector(tmp_path).inject(LOKI, 600, 5)
    host.ran.clear()
    assert host.injector(tmp_path).inject(LOKI, 600, 5) == {**first, "changed": False}
    assert host.ran == ["systemctl is-active"]


def test_undone_and_disarmed(host: Host, tmp_path: Path) -> None:
    host.injector(tmp_path).inject(LOKI, 600, 5)
    host.time += timedelta(seconds=7)
    told = host.injector(tmp_path).undo(LOKI, 5)
    assert host.active
    assert (told["fault"]["undone"], told["fault"]["undone_by"]) == ("2026-11-27T09:00:07.000Z", "drill")
    assert host.ran[-1] == "systemctl stop"
    assert list(tmp_path.iterdir()) == []
    assert host.injector(tmp_path).undo(LOKI, 5) == {"changed": False, "fault": None}


def test_the_switch_was_first(host: Host, tmp_path: Path) -> None:
    host.injector(tmp_path).inject(LOKI, 600, 5)
    host.active = True
    (tmp_path / "logs.undone").write_text("2026-11-27T09:10:00.000Z\n")
    told = host.injector(tmp_path).undo(LOKI, 5)
    assert (told["fault"]["undone"], told["fault"]["undone_by"]) == ("2026-11-27T09:10:00.000Z", "dead-man")
    assert "systemctl start" in host.ran, "once more does no harm, and the switch may have come to nothing"


def test_it_was_over_before_it_was_undone(host: Host, tmp_path: Path) -> None:
    host.injector(tmp_path).inject(LOKI, 600, 5)
    host.active = True
    assert host.injector(tmp_path).undo(LOKI, 5)["fault"]["undone_by"] == "other"


def test_there_is_nothing_left_to_be_undone_and_its_command_fails(host: Host, tmp_path: Path) -> None:
    host.injector(tmp_path).inject(LOKI, 600, 5)
    host.active = True
    host.broken.add("systemctl start")
    (tmp_path / "logs.undone").write_text("2026-11-27T09:10:00.000Z\n")
    assert host.injector(tmp_path).undo(LOKI, 5)["fault"]["undone_by"] == "dead-man"
    assert list(tmp_path.iterdir()) == []


def test_injected_again_after_the_switch_was_first(host: Host, tmp_path: Path) -> None:
    host.injector(tmp_path).inject(LOKI, 600, 5)
    host.active = True
    (tmp_path / "logs.undone").write_text("2026-11-27T09:10:00.000Z\n")
    assert host.injector(tmp_path).inject(LOKI, 600, 5)["changed"] is True
    assert not (tmp_path / "logs.undone").exists()


def test_another_fault_of_the_same_name_is_not_forgotten(host: Host, tmp_path: Path) -> None:
    host.injector(tmp_path).inject(LOKI, 600, 5)
    other = of_unit("logs", "elasticsearch.service")
    with pytest.raises(DrillError, match=r"is noted here, systemctl stop loki\.service, and it is another"):
        host.injector(tmp_path).inject(other, 600, 5)
    host.ran.clear()
    host.injector(tmp_path).undo(other, 5)
    assert host.active, "what was injected is undone, whatever is asked for by now"


def test_the_switch_that_fails_says_nothing(tmp_path: Path) -> None:
    """The shell's part, with a command that never succeeds, and no time between the attempts."""
    script, told = faults._UNDO.replace("sleep 5", ":"), tmp_path / "told"
    failed = subprocess.run(["sh", "-c", script, "sh", str(told), "false"], check=False)
    assert (failed.returncode, told.exists()) == (1, False)
    assert subprocess.run(["sh", "-c", script, "sh", str(told), "true"], check=False).returncode == 0
    assert told.read_text().endswith("Z\n")


def test_nothing_is_injected_where_it_is_down_already(host: Host, tmp_path: Path) -> None:
    host.active = False
    with pytest.raises(DrillError, match=r"Nothing was injected: 'systemctl is-active --quiet loki.service'"):
        host.injector(tmp_path).inject(LOKI, 600, 5)
    assert host.ran == ["systemctl is-active"]
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_injected_without_a_switch(host: Host, tmp_path: Path) -> None:
    host.broken.add("systemd-run --quiet")
    with pytest.raises(DrillError, match=r"switch cannot be armed.*status 1: Failed: access denied\."):
        host.injector(tmp_path).inject(LOKI, 600, 5)
    assert "systemctl stop" not in host.ran
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("how", "said"),
    [("deaf", "still succeeds after 5 s"), ("broken", "'systemctl stop loki.service' ended with status 1")],
)
def test_one_that_does_not_take_is_undone(host: Host, tmp_path: Path, how: str, said: str) -> None:
    getattr(host, how).add("systemctl stop")
    with pytest.raises(DrillError, match=f"The fault did not take, and was undone: .*{said}"):
        host.injector(tmp_path).inject(LOKI, 600, 5)
    assert "systemctl start" in host.ran
    assert list(tmp_path.iterdir()) == []


def test_one_that_cannot_be_undone_keeps_its_switch(host: Host, tmp_path: Path) -> None:
    host.injector(tmp_path).inject(LOKI, 600, 5)
    host.broken.add("systemctl start")
    with pytest.raises(DrillError, match=r"By hand: systemctl start loki\.service"):
        host.injector(tmp_path).undo(LOKI, 5)
    assert (tmp_path / "logs.json").exists()
    host.broken.clear()
    assert host.injector(tmp_path).undo(LOKI, 5)["changed"] is True


def test_one_that_does_not_come_back_is_told(host: Host, tmp_path: Path) -> None:
    host.injector(tmp_path).inject(LOKI, 600, 5)
    host.deaf.add("systemctl start")
    with pytest.raises(DrillError, match=r"still fails after 5 s: it is not as it was"):
        host.injector(tmp_path).undo(LOKI, 5)
    assert (tmp_path / "logs.json").exists()


@pytest.mark.parametrize("name", ["", "Logs", "../logs", "a b", "a" * 42, "1"])
def test_names(host: Host, tmp_path: Path, name: str) -> None:
    with pytest.raises(DrillError, match="is no name of a fault"):
        host.injector(tmp_path).inject(of_unit(name, "loki.service"), 600, 5)


def test_kubernetes() -> None:
    fault = faults.of_workload("logs", "statefulset/loki", "logging", 3, ["kubectl", "--context", "prod"])
    assert " ".join(fault.inject) == "kubectl --context prod --namespace logging scale statefulset/loki --replicas=0"
    assert fault.undo[-1] == "--replicas=3"
    assert "--for=jsonpath={.status.readyReplicas}=3" in fault.check


def test_replicas() -> None:
    told = faults.replicas_of(lambda _argv: (0, "3"), "statefulset/loki", "logging", ["kubectl"])
    assert told == 3
    noted = {"undo": ["kubectl", "scale", "statefulset/loki", "--replicas=5"]}
    assert faults.replicas_of(lambda _argv: (0, "0"), "statefulset/loki", "logging", ["kubectl"], noted) == 5
    with pytest.raises(DrillError, match=r"Cannot read the replicas of statefulset/loki in logging: .*NotFound"):
        faults.replicas_of(lambda _argv: (1, "NotFound"), "statefulset/loki", "logging", ["kubectl"])


class TestWithoutSystemd:
    """A real process, of a real command: a file that is there while all is well."""

    @pytest.fixture
    def fault(self, tmp_path: Path) -> faults.Fault:
        file = tmp_path / "well"
        file.touch()
        return faults.Fault("file", "rm well", ["rm", str(file)], ["touch", str(file)], ["test", "-e", str(file)])

    def test_undone_by_the_switch(self, fault: faults.Fault, tmp_path: Path) -> None:
        injector = Injector(tmp_path / "state", systemd=False)
        injector.inject(fault, 3, 5)
        deadline = time.monotonic() + 60
        while not (tmp_path / "state/file.undone").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (tmp_path / "well").exists()
        assert injector.undo(fault, 5)["fault"]["undone_by"] == "dead-man"

    def test_undone_in_time_the_switch_is_gone(self, fault: faults.Fault, tmp_path: Path) -> None:
        injector = Injector(tmp_path / "state", systemd=False)
        injector.inject(fault, 600, 5)
        state = injector.state("file")
        assert state is not None
        assert not (tmp_path / "well").exists()
        injector.undo(fault, 5)
        assert (tmp_path / "well").exists()
        status = os.waitpid(state["switch"], 0)[1]
        assert os.WTERMSIG(status) == signal.SIGTERM
