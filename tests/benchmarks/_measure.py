# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure commands, and report the results of a benchmark as rows of one table."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lab.binaries import vault_binary
from lab.processes import LabError

RESULTS = "BENCHMARK_RESULTS"
"""Environment variable with the file that `python -m benchmarks` reads the results from, one JSON object per line."""
TIMEOUT = 600.0
"""Seconds after which a command is killed."""
LAST_LINES = 40
"""Lines of the output of a failed command that the error shows."""


class BenchmarkError(Exception):
    """A measured command failed or did not end. The message names the command and shows the end of its output."""


@dataclass(frozen=True)
class Cost:
    """What something took; None is not measured.

    Attributes:
        seconds: wall time.
        cpu: CPU seconds, user and system, including those of child processes.
        mib: resident memory at its peak.
    """

    seconds: float | None = None
    cpu: float | None = None
    mib: float | None = None

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Cost:
        """Return the medians of the seconds, and the highest peak, of several runs."""
        return cls(
            statistics.median(run.seconds for run in runs),
            statistics.median(run.cpu for run in runs),
            max(run.peak_mib for run in runs) or None,
        )

    def __str__(self) -> str:
        shown = ((self.seconds, "s"), (self.cpu, "s of CPU"), (self.mib, "MiB"))
        return ", ".join(f"{_figure(value)} {unit}" for value, unit in shown if value is not None)


@dataclass(frozen=True)
class Run:
    """What one run of a command took.

    Attributes:
        seconds: wall time.
        cpu: CPU seconds, user and system, including those of child processes.
        peak_mib: resident memory of the process itself at its peak, 0 where it was not measured.
        output: standard output and standard error.
    """

    seconds: float
    cpu: float
    peak_mib: float
    output: str


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: the subject, and the counterpart that a ratio compares it with.
        value: the result.
        unit: "x" for a ratio, "s", "s of CPU", "MiB" or "MiB/s".
        goal: the bound, None where the figure is only informative.
        least: the goal is a lower bound instead of an upper one.
        ours, theirs: the cost of each side, None where there is none.
    """

    what: str
    value: float
    unit: str
    goal: float | None = None
    least: bool = False
    ours: Cost | None = None
    theirs: Cost | None = None

    @property
    def met(self) -> bool:
        """Tell whether the goal is met; without a goal it is."""
        return self.goal is None or (self.value >= self.goal if self.least else self.value <= self.goal)

    def cells(self) -> list[str]:
        """Return the texts of the table's columns, as HEADER names them."""
        goal = "" if self.goal is None else f"{'≥' if self.least else '≤'} {self.goal:g} {self.unit}"
        verdict = "" if self.goal is None else "met" if self.met else "MISSED"
        costs = [str(cost) if cost else "" for cost in (self.ours, self.theirs)]
        return [self.what, f"{_figure(self.value)} {self.unit}", goal, verdict, *costs]

    def line(self) -> str:
        """Return the row for the terminal."""
        what, result, goal, verdict, ours, theirs = self.cells()
        against = f" ({ours}{' against ' if theirs else ''}{theirs})" if ours or theirs else ""
        return f"{what}: {result}{f' (goal {goal}: {verdict})' if goal else ''}{against}"


HEADER = ["what", "result", "goal", "", "ours", "without the collection"]


def ratio(what: str, pairs: Iterable[tuple[Run, Run]], goal: float) -> Row:
    """Return the row of a comparison: the median of the ratios of the wall times of runs that were made in turns."""
    pairs = list(pairs)
    value = statistics.median(ours.seconds / theirs.seconds for ours, theirs in pairs)
    return Row(
        what, value, "x", goal, ours=Cost.of([pair[0] for pair in pairs]), theirs=Cost.of([pair[1] for pair in pairs])
    )


def cpu_ratio(row: Row) -> Row:
    """Return the ratio of the CPU seconds of a comparison, which other load disturbs less. It has no goal."""
    ours, theirs = row.ours, row.theirs
    if ours is None or theirs is None or not ours.cpu or not theirs.cpu:
        raise BenchmarkError(f"{row.what}: no CPU seconds were measured")
    return replace(row, what="the same in CPU", value=ours.cpu / theirs.cpu, goal=None, ours=None, theirs=None)


def run(
    command: Sequence[str], env: Mapping[str, str] | None = None, *, name: str = "", timeout: float = TIMEOUT
) -> Run:
    """Run a command to its end.

    Args:
        command: program and arguments.
        env: variables that are added to the environment.
        name: how an error calls it; the command line by default.
        timeout: seconds after which its process group is killed.

    Raises:
        BenchmarkError: it failed, or did not end in time.
    """
    name = name or " ".join(command)[:200]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **(env or {})},
        start_new_session=True,
    )
    peak = [0.0]
    watcher = threading.Thread(target=_watch, args=(process, peak))
    watcher.start()
    try:
        output, late = process.communicate(timeout=timeout)[0], False
    except subprocess.TimeoutExpired:
        _kill(process)
        output, late = process.communicate()[0], True
    except BaseException:
        _kill(process)
        raise
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    watcher.join()
    if late or process.returncode != 0:
        how = f"was killed after {timeout:g} s" if late else f"ended with exit status {process.returncode}"
        raise BenchmarkError(failure(name, how, seconds, output))
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(seconds, cpu, peak[0], output)


def failure(name: str, how: str, seconds: float, output: str) -> str:
    """Return the message about a command that failed: what, how, after how long, and the end of its output."""
    lines = output.splitlines()[-LAST_LINES:] or ["(none)"]
    return f"{name} {how} ({seconds:.1f} s). The end of its output:\n" + "".join(f"  {line}\n" for line in lines)


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _watch(process: subprocess.Popen[str], peak: list[float]) -> None:
    # Not ru_maxrss of the ended child: it begins with the memory of the process that forked.
    while process.poll() is None:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM"):
                    peak[0] = max(peak[0], int(line.split()[1]) / 1024)
        time.sleep(0.02)


def note(text: str) -> None:
    """Print a condition of the measurement, and put it below the table of `python -m benchmarks`."""
    print(text, flush=True)
    _record({"note": text})


def main(measure: Callable[[], Iterable[Row]]) -> int:
    """Run one benchmark: print each row when it is known, and record it. Return the exit status.

    An error ends the benchmark, not the others, and the rows before it count.
    """
    met = True
    try:
        for row in measure():
            print(row.line(), flush=True)
            _record({"row": asdict(row)})
            met = met and row.met
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        return 130
    except Exception as error:  # noqa: BLE001 - whatever it is, the table has to name it
        if not isinstance(error, (BenchmarkError, LabError)):
            traceback.print_exc()
        print(f"FAILED: {error}", file=sys.stderr, flush=True)
        _record({"failure": str(error) or type(error).__name__})
        return 1
    return 0 if met else 1


def _record(result: Mapping[str, Any]) -> None:
    file = os.environ.get(RESULTS)
    if file:
        with Path(file).open("a") as results:
            results.write(json.dumps(result) + "\n")


def vault_version() -> str:
    """Return the product and version of the Vault server that the lab runs."""
    return subprocess.run([vault_binary(), "version"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def read_row(fields: Mapping[str, Any]) -> Row:
    """Return a row as it was recorded."""
    costs = {side: Cost(**fields[side]) if fields[side] else None for side in ("ours", "theirs")}
    return Row(**{**fields, **costs})


def _figure(value: float) -> str:
    """Return a number with at least two significant digits."""
    digits = next((digits for digits, least in enumerate((99.5, 9.95, 0.0995)) if value >= least), 3)
    return f"{value:.{digits}f}"
