# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the benchmarks, each in a process of its own, and print one table of every result.

    python -m benchmarks [NAME ...]

A benchmark that fails stops no other. Exit status 1 when a goal is missed or a benchmark failed, 130 when interrupted.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._measure import HEADER, RESULTS, Row, read_row

FOLDER = Path(__file__).parent
GRACE = 15.0
"""Seconds that an interrupted benchmark has to stop its servers."""


@dataclass
class Result:
    """What one benchmark reported."""

    name: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failure: str = ""

    @property
    def problems(self) -> list[str]:
        """Name each goal that was missed, and the failure."""
        missed = [f"{self.name}: MISSED: {row.line()}" for row in self.rows if not row.met]
        return missed + ([f"{self.name}: FAILED: {self.failure.strip()}"] if self.failure else [])


def execute(name: str, results: Path) -> Result:
    """Run one benchmark to its end, its output as it is. Raises KeyboardInterrupt once it has stopped."""
    print(f"\n+ python -m benchmarks.{name}", flush=True)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{name}"],
        env={**os.environ, RESULTS: str(results)},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code = process.wait()
    except KeyboardInterrupt:
        # Its servers end with it.
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        raise
    result = read(name, results)
    if code not in (0, 1) or (code == 1 and not result.problems) or not (result.rows or result.failure):
        seconds = time.monotonic() - began
        result.failure = f"it ended with exit status {code} after {seconds:.0f} s; the reason is in its output above"
    return result


def read(name: str, results: Path) -> Result:
    """Return what a benchmark has recorded."""
    result = Result(name)
    for line in results.read_text().splitlines() if results.exists() else []:
        recorded = json.loads(line)
        if "row" in recorded:
            result.rows.append(read_row(recorded["row"]))
        elif "note" in recorded:
            result.notes.append(recorded["note"])
        else:
            result.failure = recorded["failure"]
    return result


def table(results: Sequence[Result]) -> str:
    """Return a Markdown table of all rows."""
    lines = [HEADER, *(row.cells() for result in results for row in result.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    shown = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([shown[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *shown[1:]])


def conditions(load_before: float) -> str:
    """Return what the figures depend on."""
    return (
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}; load "
        f"average of the last minute {load_before:.1f} before and {os.getloadavg()[0]:.1f} after"
    )


def main(arguments: Sequence[str]) -> int:
    found = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
    unknown = [name for name in arguments if name not in found]
    if unknown:
        print(f"unknown: {', '.join(unknown)}. The benchmarks are: {', '.join(found)}", file=sys.stderr)
        return 2
    load, results, interrupted = os.getloadavg()[0], [], False
    with tempfile.TemporaryDirectory(prefix="custodes-benchmarks-") as folder:
        for name in arguments or found:
            try:
                results.append(execute(name, Path(folder, f"{name}.json")))
            except KeyboardInterrupt:
                print(f"interrupted in {name}", file=sys.stderr, flush=True)
                interrupted = True
                break
    notes = [text for result in results for text in result.notes]
    print(f"\n{table(results)}\n\n{conditions(load)}", *dict.fromkeys(notes), sep="\n")
    problems = [problem for result in results for problem in result.problems]
    rows = [row for result in results for row in result.rows if row.goal is not None]
    print(
        f"{sum(row.met for row in rows)} of {len(rows)} goals met, "
        f"{sum(bool(result.failure) for result in results)} of {len(results)} benchmarks failed",
        *problems,
        sep="\n",
        flush=True,
    )
    if interrupted:
        return 130
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
