# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of 40 past drills, from the files of the records to the file of the page, and its memory.

    python -m benchmarks.report

Beside it what one would do without us: the same records read and printed as indented JSON by Python. Ends with status 1
when the goal is missed.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks._measure import run, verdict
from lab.drill_records import made_up

GOAL = 1.0  # seconds
DRILLS, RUNS = 40, 5
_OURS = """
import resource, sys, time
from pathlib import Path
began = time.perf_counter()
from ansible_collections.custodes.security_dr.plugins.module_utils.drill import chain
from ansible_collections.custodes.security_dr.plugins.module_utils.drill.report import html
records = chain.read(Path(sys.argv[1]))
Path(sys.argv[2]).write_text(html(records, chain.problems(records), "2026-12-01"))
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
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


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="custodes-bench-") as name:
        folder = Path(name, "records")
        folder.mkdir()
        for file, record in made_up(DRILLS):
            (folder / file).write_text(json.dumps(record))
        ours, plain = [], []
        for _turn in range(RUNS):
            told = run([sys.executable, "-c", _OURS, str(folder), str(Path(name, "report.html"))]).output.split()
            ours.append((float(told[0]), float(told[1])))
            plain.append(float(run([sys.executable, "-c", _PLAIN, str(folder), str(Path(name, "text"))]).output))
    seconds, memory = statistics.median(one for one, _rss in ours), max(rss for _one, rss in ours)
    other = statistics.median(plain)
    met = seconds <= GOAL
    print(
        f"report of {DRILLS} drills: {seconds:.2f} s (goal <= {GOAL:.1f} s: {verdict(met)}), {seconds / other:.0f} x "
        f"printing them as JSON ({other:.3f} s); peak RSS {memory:.0f} MiB"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
