# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a command to its end and tells its seconds and the most memory it had."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Run:
    """What one run of a command cost.

    Attributes:
        seconds: from start to end.
        peak_mib: resident memory at its highest.
        output: standard output.
    """

    seconds: float
    peak_mib: float
    output: str


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> Run:
    """Runs a command. Raises CalledProcessError, with its output, when it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **(env or {})}
    )
    peak = [0.0]
    watcher = threading.Thread(target=_watch, args=(process, peak))
    watcher.start()
    output = process.communicate()[0]
    seconds = time.perf_counter() - start
    watcher.join()
    if process.returncode != 0:
        raise SystemExit(f"{command[0]} ended with status {process.returncode}:\n{output}")
    return Run(seconds, peak[0], output)


def _watch(process: subprocess.Popen[str], peak: list[float]) -> None:
    # Not ru_maxrss of the ended child: it begins with the memory of the process that forked.
    while process.poll() is None:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM"):
                    peak[0] = max(peak[0], int(line.split()[1]) / 1024)
        time.sleep(0.02)


def verdict(met: bool) -> str:
    """A goal's result for the end of a line."""
    return "met" if met else "MISSED"
