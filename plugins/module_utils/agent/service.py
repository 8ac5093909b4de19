# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One command of the agent as a service with a timer: installed whole, proven by a run, removed without a trace.

Everything is rehearsed in a folder of its own before it replaces anything. Killed at any point, the next run completes:
it compares what is there with what is to be there, and what it removes it finds by the configuration, which goes last.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Optional

from ..files import explain
from ..lock import LOCK
from .errors import ServiceError
from .wanted import (
    CONFIG_FOLDER,
    PYTHON,
    UNITS_FOLDER,
    File,
    Host,
    Wanted,
    credential_names,
    credential_path,
    files,
    interpreter_of,
    orphans,
)

Run = Callable[[Sequence[str], Mapping[str, str]], tuple[int, str, str]]
"""Runs a program with further environment variables: exit code, standard output, standard error."""

FOLDERS = {"state_directory": 0o700, "log_directory": 0o700}
"""Options of a configuration that name a folder, which is made where there is none."""
PURGED = {
    "state_directory": ("baseline.json*", "memory.json*", LOCK, ".*.partial"),
    "log_directory": ("alerts.log*", "degraded-mode.log*", ".*.partial"),
}
"""What a purge removes of these folders: its own files, should others have some there."""
JOURNAL_LINES = 20
MOST = 10
"""Findings, and places where nobody could look, that are told of one host."""

_SEVERITIES = ("critical", "high", "medium", "low", "info")
_ASKED = ("Id", "LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload", "Result")

Units = Mapping[str, Mapping[str, str]]


class Outcome(NamedTuple):
    """What was done, or would be.

    Attributes:
        changes: each in a few words; empty when all was as it is to be.
        diff: before and after of each file, without secrets.
        report: of the last run; None where there is none.
        ran: whether the service was started to prove a change or to repeat a run that had failed.
        warnings: what systemd says about the units.
    """

    changes: list[str]
    diff: list[dict[str, str]]
    report: Optional[dict[str, Any]]
    ran: bool
    warnings: list[str]


class Service:
    """A command of the agent on this host.

    Args:
        wanted: what is to be there.
        run: runs a program.
        root: stands for "/".
        check: whether nothing may be changed. What can be rehearsed is rehearsed nevertheless.
    """

    def __init__(self, wanted: Wanted, run: Run, root: str = "/", *, check: bool = False) -> None:
        self.wanted = wanted
        self.host = Host(root)
        self._run, self._check = run, check
        self._changes: list[str] = []
        self._warnings: list[str] = []

    def present(self, *, verify: bool = True) -> Outcome:
        """Installs, configures, starts, and proves it by a run. Raises ServiceError and StoreError."""
        self._preflight()
        wanted, agent = self.wanted, self.host.read(self.wanted.path)
        interpreter = wanted.interpreter or interpreter_of(agent) or PYTHON
        every = files(self.host, wanted, agent, interpreter)
        todo = [file for file in every if not self.host.is_as(file)]
        gone = orphans(self.host, wanted, credential_names(wanted.config) | set(wanted.credentials))
        if todo:
            self._rehearse(every, todo, interpreter)
        self._folders()
        for file in todo:
            self._do(file.what, self.host.write, file)
        for name in gone:
            self._do(f"credential {name} removed", self._remove, credential_path(name))
        units = self._systemd(todo)
        changed = bool(self._changes)
        report, ran = (self._verified(units, every, changed=changed)) if verify else (None, False)
        return Outcome(self._changes, _diff(todo), report, ran, self._warnings)

    def absent(self, *, purge: bool = False) -> Outcome:
        """Stops and removes it; what it has written stays, unless purge. Raises ServiceError and StoreError."""
        self._preflight()
        wanted = self.wanted
        config = {**wanted.config, **self.host.json(wanted.config_file)}
        units = [f"{UNITS_FOLDER}/{name}" for name in sorted(wanted.units, reverse=True)]
        before = {path: self.host.read(path).decode(errors="replace") for path in units}
        known = [name for name, unit in self._ask().items() if unit.get("LoadState") != "not-found"]
        if self._exists(f"{UNITS_FOLDER}/{wanted.timer}"):
            self._do("timer disabled", self._systemctl, "disable", wanted.timer)
        # The timer first: it would start the service again.
        for name in sorted(known, reverse=True):
            self._do(f"{name} stopped", self._systemctl, "stop", name)
        credentials = [credential_path(name) for name in orphans(self.host, wanted, set())]
        metrics = [path for path in [config.get("metrics_file")] if isinstance(path, str)]
        removable = [*units, *credentials, *metrics, *(self._purgeable(config) if purge else [])]
        if not self.host.other_configs(wanted.command):
            removable.append(wanted.path)
        removed = [path for path in [*removable, wanted.config_file] if self._exists(path)]
        for path in removed:
            self._do(f"{path} removed", self._remove, path)
        if known:
            self._do("", self._systemctl, "daemon-reload")
            # What has failed would stay in the list of units.
            self._do("", self._run, ["systemctl", "reset-failed", *known], {})
        folders = [f"{CONFIG_FOLDER}/credentials", CONFIG_FOLDER]
        folders += [str(config[name]) for name in FOLDERS if purge and name in config]
        folders += [folder for folder in map(os.path.dirname, folders) if os.path.basename(folder) == "custodes"]
        for folder in [] if self._check else folders:
            # Whoever has put anything else there still needs it.
            with suppress(OSError):
                self.host.path(folder).rmdir()
        gone = [
            {"before_header": path, "after_header": path, "before": before.get(path) or f"{path}\n", "after": ""}
            for path in removed
        ]
        return Outcome(self._changes, gone, None, False, [])

    def _preflight(self) -> None:
        self.wanted.check()
        if not self.host.path("/run/systemd/system").is_dir():
            raise ServiceError("This host was not started by systemd, which is to run the agent. Nothing was changed.")
        if self.host.root == "/" and os.geteuid() != 0:
            raise ServiceError("This has to run as root: give the task `become: true`. Nothing was changed.")

    def _do(self, what: str, act: Callable[..., Any], *arguments: Any) -> None:
        if not self._check:
            act(*arguments)
        self._changes += [what] if what else []

    def _exists(self, path: str) -> bool:
        return os.path.lexists(self.host.path(path))

    def _remove(self, path: str) -> None:
        try:
            self.host.path(path).unlink(missing_ok=True)
        except OSError as error:
            raise ServiceError(f"Cannot remove {path}: {explain(error)}. Mend it and run this again.") from error

    def _purgeable(self, config: Mapping[str, Any]) -> list[str]:
        """The agent's own files in its folders."""
        found = []
        for option, patterns in PURGED.items():
            folder = str(config.get(option) or "")
            for pattern in patterns if folder else ():
                names = sorted(path.name for path in self.host.path(folder).glob(pattern) if not path.is_dir())
                found += [f"{folder}/{name}" for name in names]
        return found

    def _folders(self) -> None:
        config = self.wanted.config
        modes = {CONFIG_FOLDER: 0o755, f"{CONFIG_FOLDER}/credentials": 0o700}
        modes.update((config[name], mode) for name, mode in FOLDERS.items() if config.get(name))
        if config.get("metrics_file"):
            modes[os.path.dirname(config["metrics_file"])] = 0o755
        modes[os.path.dirname(self.wanted.path)] = 0o755
        for path, mode in modes.items():
            if not self.host.path(path).is_dir():
                self._do(f"folder {path}", self._make, path, mode)

    def _make(self, path: str, mode: int) -> None:
        folder = self.host.path(path)
        try:
            folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            folder.mkdir(mode=mode, exist_ok=True)
            folder.chmod(mode)
        except OSError as error:
            raise ServiceError(f"Cannot make the folder {path}: {explain(error)}. Mend it, run this again.") from error

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """A folder of root alone, in memory. One run at a time has it; what a killed one left in it is removed."""
        folder = self.host.path(f"/run/custodes-{self.wanted.command}.new")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise ServiceError("Another run is installing the agent on this host. Run this again later.") from None
        try:
            for name in ("agent", "config", "credentials", "units"):
                shutil.rmtree(folder / name, ignore_errors=True)
                (folder / name).mkdir(mode=0o700)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(handle)

    def _rehearse(self, every: Sequence[File], todo: Sequence[File], interpreter: str) -> None:
        """Lets the new agent judge the new configuration, and systemd the new units. Raises ServiceError."""
        with self._scratch() as folder:
            config, credentials = folder / "config" / "new.json", folder / "credentials"
            self._copy_credentials(credentials)
            for file in every:
                target = {
                    self.wanted.path: folder / "agent" / "custodes",
                    self.wanted.config_file: config,
                    **{credential_path(name): credentials / name for name in self.wanted.credentials},
                }.get(file.path, folder / "units" / os.path.basename(file.path))
                handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(handle, "wb") as new:
                    new.write(self._startable(file, interpreter))
            if any(file.what == "agent" for file in todo):
                self._check_python(interpreter)
            if any(not file.what.startswith("unit ") for file in todo):
                self._check_config(interpreter, folder / "agent" / "custodes", config, credentials)
            if any(file.what.startswith("unit ") for file in todo):
                self._check_units(folder / "units")

    def _copy_credentials(self, folder: Path) -> None:
        """Those that the configuration names and somebody else has put there."""
        for name in credential_names(self.wanted.config) - set(self.wanted.credentials):
            content = self.host.read(credential_path(name))
            if content:
                handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600)
                with os.fdopen(handle, "wb") as new:
                    new.write(content)

    def _startable(self, file: File, interpreter: str) -> bytes:
        """A unit whose program is there: systemd judges that too, and the agent is not installed yet the first time."""
        if file.what.startswith("unit ") and not self._exists(self.wanted.path):
            return file.content.replace(f"={self.wanted.path} ".encode(), f"={interpreter} ".encode())
        return file.content

    def _check_python(self, interpreter: str) -> None:
        code, out, _err = self._run([interpreter, "-I", "-c", "import sys; print(sys.version_info >= (3, 9))"], {})
        if code != 0 or out.strip() != "True":
            raise ServiceError(
                f"{interpreter} is no Python of 3.9 or newer, which the agent needs. Install one and name it as the "
                "interpreter. Nothing was changed."
            )

    def _check_config(self, interpreter: str, agent: Path, config: Path, credentials: Path) -> None:
        command = [interpreter, "-I", str(agent), self.wanted.command, "--check-config", "--config", str(config)]
        code, out, err = self._run(command, {"CREDENTIALS_DIRECTORY": str(credentials)})
        if code != 0:
            said = (err or out).strip().replace(str(config), self.wanted.config_file)
            said = said.replace(str(credentials), f"{CONFIG_FOLDER}/credentials")
            raise ServiceError(f"The agent refuses this configuration: {said[-1500:]} Nothing was changed.")

    def _check_units(self, folder: Path) -> None:
        names = [str(folder / name) for name in sorted(self.wanted.units)]
        code, out, err = self._run(["systemd-analyze", "verify", "--man=no", *names], {"SYSTEMD_LOG_COLOR": "0"})
        said = [line.replace(f"{folder}/", "") for line in (out + err).splitlines() if str(folder) in line]
        # A value that it cannot read is no error for systemd, which leaves it out: a timer that never fires is left. A
        # name that an older one does not know is another matter.
        ignored = [line for line in said if "ignoring" in line and "Unknown" not in line]
        if code != 0 or ignored:
            text = "\n".join(ignored or said) or (out + err).strip()
            raise ServiceError(f"systemd refuses these units: {text[-1500:]}\nNothing was changed.")
        self._warnings += said

    def _systemctl(self, *arguments: str) -> str:
        code, out, err = self._run(["systemctl", *arguments], {})
        if code != 0:
            raise ServiceError(f"systemctl {' '.join(arguments)} failed: {(err or out).strip()[-1500:]}")
        return out

    def _ask(self) -> dict[str, dict[str, str]]:
        """Properties of the service and the timer, by the units' names."""
        names = [self.wanted.service, self.wanted.timer]
        told = self._systemctl("show", f"--property={','.join(_ASKED)}", *names)
        units = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in told.split("\n\n")]
        by_name = {unit.get("Id"): unit for unit in units}
        return {name: by_name.get(name, {}) for name in names}

    def _systemd(self, todo: Sequence[File]) -> Units:
        """Lets systemd know the units, and keeps the timer running now and after each boot."""
        units, timer = self._ask(), self.wanted.timer
        changed = {file.what for file in todo}
        stale = [name for name in units if units[name].get("NeedDaemonReload") == "yes"]
        if stale or any(what.startswith("unit ") for what in changed):
            self._do("" if changed else "systemd reloaded", self._systemctl, "daemon-reload")
        if units[timer].get("UnitFileState") != "enabled":
            self._do("timer enabled", self._systemctl, "enable", timer)
        if units[timer].get("ActiveState") != "active":
            self._do("timer started", self._systemctl, "start", timer)
        elif timer in stale or f"unit {timer}" in changed:
            self._do("timer restarted", self._systemctl, "restart", timer)
        return units

    def _verified(self, units: Units, every: Sequence[File], *, changed: bool) -> tuple[Optional[dict[str, Any]], bool]:
        """The report of a run that used all of this; whether the run was started for it. Raises ServiceError."""
        state = units[self.wanted.service]
        report = self._last()
        fresh = report is not None and not report.get("problem") and self._is_newer(report, every)
        if self._check or (not changed and fresh and state.get("Result", "success") == "success"):
            return report, False
        if state.get("ActiveState") == "activating":
            # A run that began before all this was written: the next one is what counts.
            self._run(["systemctl", "start", self.wanted.service], {})
        code, _out, err = self._run(["systemctl", "start", self.wanted.service], {})
        report = self._last()
        if code != 0 or report is None or report.get("problem"):
            raise ServiceError(self._why(err, report))
        return report, True

    def _last(self) -> Optional[dict[str, Any]]:
        """What the last run recorded; None when there is no such run."""
        wanted = self.wanted
        if not self._exists(wanted.path):
            return None
        command = [str(self.host.path(wanted.path)), wanted.command, "--last", "--json", "--config", wanted.config_file]
        _code, out, _err = self._run(command, {})
        with suppress(ValueError):
            report = json.loads(out)
            return report if isinstance(report, dict) and report else None
        return None

    def _is_newer(self, report: Mapping[str, Any], every: Sequence[File]) -> bool:
        """Whether a run began after the last file was written. Its time is of whole seconds."""
        with suppress(ValueError, OSError):
            started = datetime.fromisoformat(str(report.get("started")).replace("Z", "+00:00")).timestamp()
            return all(int(self.host.path(file.path).lstat().st_mtime) <= started for file in every)
        return False

    def _why(self, err: str, report: Optional[Mapping[str, Any]]) -> str:
        service = self.wanted.service
        unit = [f"--unit={service}", f"--lines={JOURNAL_LINES}", "--output=cat", "--no-pager"]
        journal = self._run(["journalctl", *unit], {})[1].strip()
        problem = str((report or {}).get("problem") or "").strip()
        said = problem or err.strip() or "It left no report."
        return (
            f"All is installed, but the first run failed: {said}\nThe journal ends so:\n{journal[-3000:]}\n"
            f"Mend what it names, then run this again; on the host: systemctl start {service}"
        )


def told(report: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """A run's report, cut to what a roll-out over many hosts can carry: the worst findings first."""
    report = report or {}
    order = {severity: place for place, severity in enumerate(_SEVERITIES)}
    findings = sorted(report.get("findings") or [], key=lambda one: order.get(one.get("severity"), len(order)))
    kept = ("rule", "severity", "subject", "summary", "state", "first_seen")
    return {
        "version": report.get("version"),
        "baseline": report.get("baseline"),
        "counts": report.get("counts") or {},
        "findings": [{name: one.get(name) for name in kept} for one in findings[:MOST]],
        "blind": list(report.get("blind") or [])[:MOST],
        "log_store": report.get("log_store"),
    }


def _diff(todo: Sequence[File]) -> list[dict[str, str]]:
    return [
        {"before_header": file.path, "after_header": file.path, "before": file.before, "after": file.after}
        for file in todo
    ]
