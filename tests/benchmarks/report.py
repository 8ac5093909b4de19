# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the report of 40 past drills, from the files of the records to the file of the page, and its memory.

    python -m benchmarks.report

Beside it the least that a script would do: Python reads the same records and prints them as indented JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks._measure import Cost, Row, main, run
from lab.drill_records import made_up

GOAL = 1.0  # seconds
DRILLS, RUNS = 40, 5
_OURS = """
import sys, time
from pathlib import Path
began = time.perf_counter()
from ansible_collections.custodes.security_dr.plugins.module_utils.drill import chain
from ansible_collections.custodes.security_dr.plugins.module_utils.drill.report import html
records = chain.read(Path(sys.argv[1]))
Path(sys.argv[2]).write_text(html(records, chain.problems(records), "2026-12-01"))
print(time.perf_counter() - began)
"""
_PLAIN = """
import sys, time
from pathlib import Path
began = time.perf_counter()
import json
text = "\\n".join(json.dumps(json.loads(one.read_text()), indent=2) for one in sorted(Path(sys.argv[1]).glob("*.json")))
Path(sys.argv[2]).write_text(text)
print(time.perf_counter() - began)
"""


def measure() -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="custodes-bench-") as name:
        folder = Path(name, "records")
        folder.mkdir()
        for file, record in made_up(DRILLS):
            (folder / file).write_text(json.dumps(record))
        ours, plain = [], []
        for _turn in range(RUNS):
            ours.append(run([sys.executable, "-c", _OURS, str(folder), str(Path(name, "report.html"))]))
            plain.append(run([sys.executable, "-c", _PLAIN, str(folder), str(Path(name, "text"))]))
    # Without the start of Python, which is the same on both sides.
    seconds, other = (statistics.median(float(one.output) for one in side) for side in (ours, plain))
    yield Row(
        f"report of {DRILLS} drills, without the start of Python, beside printing them as JSON",
        seconds,
        "s",
        GOAL,
        ours=Cost(seconds, mib=Cost.of(ours).mib),
        theirs=Cost(other, mib=Cost.of(plain).mib),
    )


if __name__ == "__main__":
    sys.exit(main(measure))
