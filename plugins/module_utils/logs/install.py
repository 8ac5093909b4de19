# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts a configuration into a running Fluent Bit: judged before, proven after, taken back when it does not come up.

Killed at any point, the next run completes: it compares what is there, and a service older than its files is restarted.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Optional

from ..files import StoreError, explain, new_file
from .errors import LogsError
from .fluent_bit import PRIMARY, SECONDARY

Run = Callable[[Sequence[str], Mapping[str, str]], tuple[int, str]]
"""Runs a program with further environment variables: exit code, and all that it said."""
Ready = Callable[[], bool]

UNITS_FOLDER = "/etc/systemd/system"
MASK = "(hidden)"
PATIENCE = 30.0
"""Seconds in which Fluent Bit has to be up."""
PAUSE = 0.5

_ESCAPED = re.compile(r'["\\$`]')
_SAID = re.compile(r"\[ *(?:warn|error)\] *(.*)")


class File(NamedTuple):
    """One file. Attributes: path; content, None for one that is to be gone; mode; secret, whether nobody may see it."""

    path: str
    content: Optional[str]
    mode: int = 0o644
    secret: bool = False


class Change(NamedTuple):
    """Attributes: wanted; before, the content as it is, None where there is none."""

    wanted: File
    before: Optional[str]

    @property
    def diff(self) -> dict[str, str]:
        before, after = self.before or "", self.wanted.content or ""
        if self.wanted.secret:
            before, after = (masked(text) for text in (before, after))
            # That a value is another has to show, and not what it is.
            after += "# A value has changed.\n" if before == after else ""
        header = {"before_header": self.wanted.path, "after_header": self.wanted.path}
        return {**header, "before": before, "after": after}


def masked(environment: str) -> str:
    """A file of variables with their values hidden, those of several lines too."""
    value = r'"(?:\\.|[^"\\])*"|[^\n]*'
    return re.sub(rf"^([^#=\n]+)=(?:{value})$", rf"\1={MASK}", environment, flags=re.MULTILINE | re.DOTALL)


def environment_file(secrets: Mapping[str, str]) -> str:
    """For systemd's EnvironmentFile=, in double quotes, where a backslash keeps what follows as it is."""
    quoted = {name: _ESCAPED.sub(r"\\\g<0>", value) for name, value in secrets.items()}
    return "".join(f'{name}="{value}"\n' for name, value in sorted(quoted.items()))


def metrics_ready(url: str) -> bool:
    """Whether Fluent Bit's metrics know both outputs."""
    try:
        # Its own address, and no proxy's.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2) as answer:
            text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        # No answer, or one of another service that has the port.
        return False
    return all(f'name="{alias}"' in text for alias in (PRIMARY, SECONDARY))


class Installation:
    """The files of one Fluent Bit, and the service that reads them.

    Args:
        files: what is to be there.
        judged: what Fluent Bit and systemd are to judge; the configuration first.
        binary: of Fluent Bit, which judges the configuration.
        secrets: the variables that it is going to have.
        service: the unit; None when others restart it.
        run: runs a program.
        ready: whether it is up with both outputs.
        root: stands for "/".
    """

    def __init__(
        self,
        files: Sequence[File],
        judged: Sequence[File],
        binary: str,
        secrets: Mapping[str, str],
        service: Optional[str],
        run: Run,
        ready: Ready,
        root: str = "/",
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files, self._judged = files, judged
        self._binary, self._secrets, self._service = binary, secrets, service
        self._run, self._ready, self._root = run, ready, root
        self._sleep, self._monotonic = sleep, monotonic

    def changes(self) -> list[Change]:
        """What is not as it is to be. Raises LogsError."""
        every = [Change(file, self._read(file)) for file in self._files]
        return [one for one in every if one.before != one.wanted.content or not self._mode_is_right(one)]

    def judge(self, check: bool = False) -> bool:
        """Has Fluent Bit and systemd judge all of it, beside what is there; False when there is no Fluent Bit to ask.

        A warning is a refusal: it then takes a default, such as to give up after one retry.

        Args:
            check: whether this is check mode, where a package that is yet to be installed is no error.

        Raises LogsError.
        """
        if not os.path.isfile(self._binary):
            # Nor does systemd accept a unit whose program is not there.
            if self._service and not check:
                raise LogsError(
                    f"There is no {self._binary}, which the unit is to start. Install Fluent Bit 5.1 or newer, have "
                    "the role do it with fluent_bit_install, or give its path as fluent_bit_binary. Nothing was "
                    "changed."
                )
            return False
        folder = tempfile.mkdtemp(prefix="custodes-fluent-bit-")
        try:
            trial = {file.path: os.path.join(folder, os.path.basename(file.path)) for file in self._judged}
            for file in self._judged:
                with open(trial[file.path], "w", encoding="utf-8", opener=_private) as written:
                    written.write(file.content or "")
            self._judge_units(trial)
            return self._dry_run(trial[self._judged[0].path], folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _dry_run(self, config: str, folder: str) -> bool:
        code, said = self._run([self._binary, "--dry-run", "-c", config], self._secrets)
        told = [found.replace(f"{folder}/", "") for found in _SAID.findall(said)]
        if code == 0 and not told:
            return True
        if any("unknown configuration property 'rotate" in one for one in told):
            told.append("The local file rotates from Fluent Bit 5.1 on: this one is older. Upgrade it.")
        raise LogsError(
            f"{self._binary} --dry-run refuses {self._judged[0].path}: {' '.join(told)[-1500:] or said.strip()[-500:]} "
            "Nothing was changed."
        )

    def _judge_units(self, trial: Mapping[str, str]) -> None:
        units = [trial[file.path] for file in self._judged if file.path.endswith(".service") and file.content]
        if not units:
            return
        code, said = self._run(["systemd-analyze", "verify", "--man=no", *units], {"SYSTEMD_LOG_COLOR": "0"})
        ignored = [line for line in said.splitlines() if any(unit in line for unit in units) and "ignoring" in line]
        # A name that an older systemd does not know is no fault of the unit's.
        ignored = [line for line in ignored if "Unknown" not in line]
        if code != 0 or ignored:
            raise LogsError(f"systemd refuses the unit: {(' '.join(ignored) or said)[-1000:]} Nothing was changed.")

    def present(self, changes: Sequence[Change]) -> None:
        """Writes them, restarts the service, and waits until it is up; else all is as it was.

        A service that ran before runs again with what was there before; one that did not is stopped and disabled.

        Raises LogsError.
        """
        before = self._state("ActiveState", "UnitFileState")
        try:
            for one in changes:
                self._put(one.wanted, one.wanted.content)
            self._restart(changes)
        except LogsError as error:
            raise LogsError(
                f"{error} The files are as they were before, and {self._taken_back(changes, before)}."
            ) from error

    def _taken_back(self, changes: Sequence[Change], before: Mapping[str, str]) -> str:
        """Puts the files back, and the service to what it was before; says what became of it. Raises LogsError."""
        ran = before.get("ActiveState") in ("active", "activating", "reloading")
        enabled = before.get("UnitFileState") == "enabled"
        if self._service and not ran:
            self._tried("stop")
        if self._service and not enabled:
            # As long as its unit is there, which systemd looks for.
            self._tried("disable")
        for one in changes:
            self._put(one.wanted, one.before)
        if not self._service:
            return "nothing was restarted"
        # Without this systemd goes on with the unit that is gone, be there another of that name or not.
        with suppress(LogsError):
            self._systemctl("daemon-reload")
        if enabled and self._unit_is_among(changes):
            self._tried("reenable")
        if not ran:
            return "the service, which did not run before, was stopped" + ("" if enabled else " and disabled")
        failed = self._tried("restart")
        if failed:
            return f"the service, which ran before, does not start with them either, see to it: {failed}"
        return "the service was restarted with them"

    def _tried(self, verb: str) -> str:
        """Has systemd do it with the service; why it did not, empty where it did."""
        try:
            self._systemctl(verb, self._service or "")
        except LogsError as error:
            return str(error)
        return ""

    def stale(self) -> bool:
        """Whether the service does not run, is not started at boot, or began before its files were written."""
        if not self._service:
            return False
        state = self._state("ActiveState", "UnitFileState", "ActiveEnterTimestampMonotonic")
        if state.get("ActiveState") != "active" or state.get("UnitFileState") != "enabled":
            return True
        age = time.clock_gettime(time.CLOCK_MONOTONIC) - int(state.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
        written = max(os.stat(self._path(file)).st_mtime for file in self._files if file.content is not None)
        return written > time.time() - age

    def absent(self, changes: Sequence[Change]) -> None:
        """Stops it and removes the files; what waits for a backend stays. Raises LogsError."""
        if self._service:
            with suppress(LogsError):
                self._systemctl("disable", "--now", self._service)
        for one in changes:
            self._put(one.wanted, None)
        if self._service:
            self._reload(changes)

    def _restart(self, changes: Sequence[Change]) -> None:
        if not self._service:
            return
        self._reload(changes)
        self._systemctl("enable", self._service)
        self._systemctl("restart", self._service)
        end = self._monotonic() + PATIENCE
        while self._monotonic() < end:
            if self._ready() and self._systemctl("show", "--property=ActiveState", self._service).endswith("=active"):
                return
            self._sleep(PAUSE)
        _code, said = self._run(["journalctl", "--no-pager", "-o", "cat", "-n", "20", "-u", self._service], {})
        raise LogsError(
            f"{self._service} was restarted and has no metrics of both outputs after {PATIENCE:g} seconds. Its journal "
            f"ends with: {said.strip()[-1000:]}"
        )

    def _reload(self, changes: Sequence[Change]) -> None:
        if self._unit_is_among(changes):
            self._systemctl("daemon-reload")

    @staticmethod
    def _unit_is_among(changes: Sequence[Change]) -> bool:
        return any(one.wanted.path.endswith(".service") for one in changes)

    def _state(self, *properties: str) -> dict[str, str]:
        """Properties of the service, as systemd names them; none where there is no service."""
        if not self._service:
            return {}
        told = self._systemctl("show", f"--property={','.join(properties)}", self._service)
        return dict(line.split("=", 1) for line in told.splitlines() if "=" in line)

    def _systemctl(self, *arguments: str) -> str:
        code, said = self._run(["systemctl", *arguments], {})
        if code != 0:
            raise LogsError(f"systemctl {' '.join(arguments)} failed: {said.strip()[-1000:]}")
        return said.strip()

    def _path(self, file: File) -> str:
        return os.path.join(self._root, file.path.lstrip("/"))

    def _mode_is_right(self, change: Change) -> bool:
        if change.wanted.content is None:
            return True
        return os.stat(self._path(change.wanted)).st_mode & 0o7777 == change.wanted.mode

    def _read(self, file: File) -> Optional[str]:
        try:
            with open(self._path(file), encoding="utf-8") as read:
                return read.read()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            reason = explain(error) if isinstance(error, OSError) else "it is not text"
            raise LogsError(f"Cannot read {file.path}: {reason}.") from error

    def _put(self, file: File, content: Optional[str]) -> None:
        path = self._path(file)
        try:
            if content is None:
                with suppress(FileNotFoundError):
                    os.unlink(path)
                return
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            with new_file(path) as written:
                written.write(content.encode())
                os.fchmod(written.fileno(), file.mode)
        except StoreError as error:
            raise LogsError(str(error)) from error
        except OSError as error:
            raise LogsError(f"Cannot write {file.path}: {explain(error)}.") from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
