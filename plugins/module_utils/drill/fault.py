# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fault that is injected on a host, seen to be in force, and undone, whatever becomes of who injected it.

Before anything is stopped, a dead man's switch is armed on the host itself: a transient timer of systemd, or a process
of its own where there is no systemd, which undoes the fault when nobody has in time.
The module drill_fault calls it. NAME.json in its folder is ours, NAME.undone the switch's.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

from ..files import StoreError, explain, read_json, write_json
from .errors import DrillError
from .times import stamp

FOLDER = Path("/run/custodes-drill")
SYSTEMD = Path("/run/systemd/system")
"""Is there where systemd is init, as sd_booted(3) has it."""
_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}\Z")
_POLL = 0.2
_LONGEST = 120.0

# The undoing, and the time of it for who asks later. Tried again until it succeeds, for a while.
_UNDO = (
    'file=$1; shift; for attempt in 1 2 3 4 5 6 7 8 9 10; do if "$@"; then '
    'date -u +%Y-%m-%dT%H:%M:%S.000Z >"$file.new" && mv "$file.new" "$file"; exit; fi; sleep 5; done; exit 1'
)
_AFTER = f'sleep "$1"; shift; {_UNDO}'
_PASSED_ON = ("HOME", "PATH", "KUBECONFIG")
"""Of the environment, to the switch: a service of systemd has none of it."""

Run = Callable[[Sequence[str]], tuple[int, str]]
"""Runs a command and gives its status and what it wrote."""


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: lower-case letters, digits and ``-``.
        what: for the reader, such as ``systemctl stop loki.service``.
        inject, undo: commands.
        check: a command that succeeds while all is well, and fails while the fault is in force.
    """

    name: str
    what: str
    inject: Sequence[str]
    undo: Sequence[str]
    check: Sequence[str]


def of_unit(name: str, unit: str) -> Fault:
    """A unit of systemd that is stopped."""
    return Fault(
        name,
        f"systemctl stop {unit}",
        ["systemctl", "stop", unit],
        ["systemctl", "start", unit],
        ["systemctl", "is-active", "--quiet", unit],
    )


def of_workload(name: str, workload: str, namespace: str, replicas: int, kubectl: Sequence[str]) -> Fault:
    """A Deployment or StatefulSet of Kubernetes that is scaled to nothing, and to `replicas` again.

    Args:
        workload: such as ``statefulset/loki``.
        kubectl: the program with its global options.
    """
    base = [*kubectl, "--namespace", namespace]
    return Fault(
        name,
        f"kubectl scale {workload} of {namespace} to 0",
        [*base, "scale", workload, "--replicas=0"],
        [*base, "scale", workload, f"--replicas={replicas}"],
        [*base, "wait", workload, f"--for=jsonpath={{.status.readyReplicas}}={replicas}", "--timeout=1s"],
    )


def replicas_of(
    run: Run, workload: str, namespace: str, kubectl: Sequence[str], noted: Optional[Mapping[str, Any]] = None
) -> int:
    """How many a workload is meant to have; of one whose fault is noted, how many it had before. Raises DrillError."""
    if noted is not None and noted["undo"][-1].startswith("--replicas="):
        return int(noted["undo"][-1].partition("=")[2])
    argv = [*kubectl, "--namespace", namespace, "get", workload, "-o", "jsonpath={.spec.replicas}"]
    status, output = run(argv)
    if status != 0 or not output.strip().isdigit():
        raise DrillError(f"Cannot read the replicas of {workload} in {namespace}: {_said(argv, status, output)}")
    return int(output)


def run_command(argv: Sequence[str]) -> tuple[int, str]:
    """Runs a command to its end, for two minutes at most."""
    try:
        ended = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_LONGEST,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 124, f"it did not end within {_LONGEST:g} s"
    except OSError as error:
        return 127, explain(error)
    return ended.returncode, ended.stdout.decode(errors="replace")


class Injector:
    """Injects and undoes the faults of one host.

    Args:
        folder: where it is noted what is in force; in /run, so that a reboot forgets it.
        run, now, sleep: collaborators.
        systemd: whether systemd is init here.
    """

    def __init__(
        self,
        folder: Path = FOLDER,
        run: Run = run_command,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        sleep: Callable[[float], None] = time.sleep,
        systemd: Optional[bool] = None,
    ) -> None:
        self._folder = folder
        self._run = run
        self._now = now
        self._sleep = sleep
        self._systemd = SYSTEMD.is_dir() if systemd is None else systemd

    def inject(self, fault: Fault, seconds: float, wait: float) -> dict[str, Any]:
        """Arms the dead man's switch, injects, and waits until the fault is in force.

        Args:
            seconds: until the dead man's switch undoes it.
            wait: seconds until the fault has to be in force; after them it is undone at once.

        Returns:
            what, injected, confirmed, undone and undone_by, as the record of a drill has a fault.

        Raises:
            DrillError: what is to be taken away is not there, the switch cannot be armed, or the fault did not take.
            StoreError: the state cannot be written.
        """
        _check_name(fault.name)
        known = self.state(fault.name)
        if known is not None:
            if known["undo"] != list(fault.undo):
                raise DrillError(
                    f"Nothing was injected: a fault of the name {fault.name} is noted here, {known['what']}, and it is "
                    "another. Undo it first: state undone."
                )
            if self.in_force(fault) and not self._undone_file(fault.name).exists():
                return {"changed": False, "fault": _told(known)}
            self.undo(fault, wait)
        self.rehearse(fault)
        state: dict[str, Any] = {"what": fault.what, "undo": list(fault.undo), "undone": None, "undone_by": None}
        self._forget(fault.name)
        self._write(fault.name, state)
        self._arm(fault, seconds, state)
        state["injected"] = stamp(self._now())
        self._write(fault.name, state)
        status, output = self._run(fault.inject)
        if status != 0 or not self._wait(lambda: self.in_force(fault), wait):
            reason = (
                _said(fault.inject, status, output)
                if status != 0
                else f"{' '.join(fault.check)} still succeeds after {wait:g} s."
            )
            self.undo(fault, wait)
            raise DrillError(f"The fault did not take, and was undone: {reason}")
        state["confirmed"] = stamp(self._now())
        self._write(fault.name, state)
        return {"changed": True, "fault": _told(state)}

    def rehearse(self, fault: Fault) -> None:
        """Whether it could be injected: all has to be well before. Changes nothing. Raises DrillError."""
        _check_name(fault.name)
        status, output = self._run(fault.check)
        if status != 0:
            raise DrillError(
                f"Nothing was injected: {_said(fault.check, status, output)} It has to succeed before a fault can "
                "be told from one that was there already. Mend what it looks at, then drill."
            )

    def undo(self, fault: Fault, wait: float) -> dict[str, Any]:
        """Undoes it, waits until all is well, and disarms the switch.

        undone_by is ``drill``; ``dead-man`` where the switch was first, ``other`` where the fault was over before both.

        Raises:
            DrillError: it cannot be undone; the switch stays armed.
            StoreError: the state cannot be read.
        """
        _check_name(fault.name)
        state = self.state(fault.name)
        if state is None:
            return {"changed": False, "fault": None}
        by_switch = self._undone_file(fault.name)
        held = by_switch.exists() or self.in_force(fault)
        # What was injected is undone, whatever is asked for by now; also after the switch, which does no harm.
        status, output = self._run(state["undo"])
        # Where there is nothing left to be undone, many a command fails.
        if status != 0 and self.in_force(fault):
            raise DrillError(
                f"The fault is not undone: {_said(state['undo'], status, output)} The dead man's switch on this host "
                f"tries it once more. By hand: {' '.join(state['undo'])}"
            )
        if by_switch.exists():
            state.update(undone=by_switch.read_text().strip(), undone_by="dead-man")
        else:
            state.update(undone=stamp(self._now()), undone_by="drill" if held else "other")
        well = self._wait(lambda: self._run(fault.check)[0] == 0, wait)
        if not well:
            raise DrillError(
                f"{' '.join(state['undo'])} was run, and {' '.join(fault.check)} still fails after {wait:g} s: "
                "it is not as it was. Look at the log of what was stopped."
            )
        self._disarm(fault.name, state)
        self._forget(fault.name)
        return {"changed": True, "fault": _told(state)}

    def in_force(self, fault: Fault) -> bool:
        """Whether its check fails now."""
        return self._run(fault.check)[0] != 0

    def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        began = self._now()
        while not condition():
            if (self._now() - began).total_seconds() >= seconds:
                return False
            self._sleep(_POLL)
        return True

    def _arm(self, fault: Fault, seconds: float, state: dict[str, Any]) -> None:
        told = str(self._undone_file(fault.name))
        if self._systemd:
            unit = _unit(fault.name)
            argv = ["systemd-run", "--quiet", f"--unit={unit}", f"--on-active={seconds:g}"]
            argv += ["--timer-property=AccuracySec=1s", "--collect"]
            argv += [f"--setenv={name}={os.environ[name]}" for name in _PASSED_ON if name in os.environ]
            # systemd takes ${X} for a variable of its own.
            argv += ["/bin/sh", "-c", _UNDO, "sh", told, *(word.replace("$", "$$") for word in fault.undo)]
            status, output = self._run(argv)
            if status != 0:
                self._forget(fault.name)
                raise DrillError(
                    f"Nothing was injected: the dead man's switch cannot be armed. {_said(argv[:4], status, output)}"
                )
            return
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _AFTER, "sh", f"{seconds:g}", told, *fault.undo],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            self._forget(fault.name)
            raise DrillError(
                f"Nothing was injected: the dead man's switch cannot be armed: {explain(error)}."
            ) from error
        state.update(switch=process.pid, switch_started=_started(process.pid))

    def _disarm(self, name: str, state: dict[str, Any]) -> None:
        if self._systemd:
            self._run(["systemctl", "stop", f"{_unit(name)}.timer"])
            return
        pid, began = state.get("switch"), state.get("switch_started")
        if pid and began and _started(pid) == began:
            # It has a session of its own, so its sleep ends with it.
            os.killpg(pid, signal.SIGTERM)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _undone_file(self, name: str) -> Path:
        return self._folder / f"{name}.undone"

    def state(self, name: str) -> Optional[dict[str, Any]]:
        """What is noted of a fault that was not undone by a drill; None when there is none. Raises StoreError."""
        try:
            return read_json(self._file(name))
        except FileNotFoundError:
            return None

    def _write(self, name: str, state: dict[str, Any]) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"Cannot make {self._folder}: {explain(error)}. Use become.") from error
        write_json(self._file(name), state)

    def _forget(self, name: str) -> None:
        self._file(name).unlink(missing_ok=True)
        self._undone_file(name).unlink(missing_ok=True)


def _check_name(name: str) -> None:
    if not _NAME.match(name):
        raise DrillError(f"{name!r:.60} is no name of a fault: lower-case letters, digits and -, not longer than 41.")


def _unit(name: str) -> str:
    return f"custodes-drill-{name}-undo"


def _started(pid: int) -> Optional[str]:
    """The start time of a process, by which its id is told from a later one's."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _told(state: dict[str, Any]) -> dict[str, Any]:
    return {key: state.get(key) for key in ("what", "injected", "confirmed", "undone", "undone_by")}


def _said(argv: Sequence[str], status: int, output: str) -> str:
    said = " ".join(output.split())[:300]
    return f"'{' '.join(argv)}' ended with status {status}{': ' + said.rstrip('.') if said else ''}."
