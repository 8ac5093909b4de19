# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts, watches and ends the lab's servers, none of which outlives the process that started it."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

# Below the range the kernel hands to outgoing connections, so that nothing takes a port while its server is down.
# Two processes of one test run must not find the same port free: pytest-xdist numbers them gw0, gw1, ...; what runs
# beside them without it takes the last of the ranges.
_FIRST = 20000 + 2000 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw5")[2:]) % 6)
_PORTS = range(_FIRST, _FIRST + 2000)
_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.05

_libc = ctypes.CDLL(None, use_errno=True)
_handed_out: set[int] = set()
# The kernel signals a child when the THREAD that forked it ends. This one ends with the process and not before.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lab-spawner")


class LabError(Exception):
    """The lab could not do what was asked. The message carries the end of the log that explains it."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now and that this process has not handed out before."""
    for port in random.sample(_PORTS, 200):
        if port in _handed_out:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _handed_out.add(port)
        return port
    raise LabError(f"no free port on 127.0.0.1 among 200 tried in {_PORTS.start}-{_PORTS.stop - 1}")


def wait_for(what: str, condition: Callable[[], bool], timeout: float = 60.0) -> None:
    """Ask `condition` until it is true. Raises LabError when that takes longer than `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:g} s in vain for this: {what}")
        time.sleep(_POLL_SECONDS)


def tail(file: Path, lines: int = 20) -> str:
    """The last lines of a text file, or a remark when there are none."""
    text = file.read_text(errors="replace") if file.exists() else ""
    return "\n".join(text.splitlines()[-lines:]) or "(nothing was logged)"


def spawn(
    command: Sequence[str],
    output: BinaryIO,
    *,
    env: Mapping[str, str],
    cwd: Path,
    death_signal: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, which gets `death_signal` when this process ends, however it ends."""
    parent = os.getpid()

    def die_with_parent() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:
            os._exit(1)

    def popen() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
            # Safe with threads: it calls only what was loaded before the fork.
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )

    return _spawner.submit(popen).result()


class Server:
    """One server process: its command, its environment, its log, and how to tell that it is ready.

    The environment is `env` and PATH, nothing else: what the caller has set for itself (VAULT_*, AWS_*, proxies)
    must not change what a test sees.
    """

    stop_signal = signal.SIGTERM
    death_signal = signal.SIGKILL

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        *,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.folder = folder
        self.cwd = folder
        self.log_file = folder / f"{name}.log"
        self._ready = ready
        self._env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while the server runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def running(self) -> bool:
        """Whether the process exists; a paused one does."""
        return self.pid is not None

    def launch(self) -> None:
        """Start the process and return at once. A server that runs already is left alone."""
        if self.running:
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            try:
                self._process = spawn(self.command, log, env=self._env, cwd=self.cwd, death_signal=self.death_signal)
            except OSError as error:
                raise LabError(f"{self.name} could not be started with {self.command[0]}: {error}") from error

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Wait until the server serves. Raises LabError with the end of its log if it ends or takes too long."""
        deadline = time.monotonic() + timeout
        while True:
            if self._process is None:
                raise LabError(f"{self.name} was not started")
            status = self._process.poll()
            if status is not None:
                raise LabError(f"{self.name} ended with status {status} while starting.\n{self._explain()}")
            if self._ready():
                return
            if time.monotonic() > deadline:
                self.kill()
                raise LabError(f"{self.name} was not ready after {timeout:g} s and was killed.\n{self._explain()}")
            time.sleep(_POLL_SECONDS)

    def start(self, timeout: float = 60.0) -> None:
        """Start the server and wait until it serves. Raises LabError as `wait_ready` does."""
        self.launch()
        self.wait_ready(timeout)

    def stop(self, grace: float = 15.0) -> None:
        """End the server as an operator would; after `grace` seconds, kill it."""
        if self._process is None:
            return
        self._signal(self.stop_signal)
        self._signal(signal.SIGCONT)
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL the server and whatever it started, and wait until it is gone."""
        if self._process is not None:
            self._signal(signal.SIGKILL, group=True)
            self._process.wait()

    def pause(self) -> None:
        """Freeze the server: connections to it open, and nothing answers."""
        self._signal(signal.SIGSTOP, group=True)

    def resume(self) -> None:
        """Let a paused server go on."""
        self._signal(signal.SIGCONT, group=True)

    def log_tail(self, lines: int = 20) -> str:
        """The last lines the server logged."""
        return tail(self.log_file, lines)

    def _signal(self, number: signal.Signals, *, group: bool = False) -> None:
        pid = self.pid
        if pid is None:
            return
        if group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)

    def _explain(self) -> str:
        return f"The end of {self.log_file}:\n{self.log_tail()}"
