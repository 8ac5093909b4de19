# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast a snapshot is verified, next to `gzip -dc FILE | sha256sum`, and in how much memory.

    python tests/benchmarks/verify.py [MEBIBYTES]

The pipeline only decompresses and hashes once; verify_file also hashes the archive, checks the format and counts keys.
Ends with status 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS))

from lab import archives  # noqa: E402

GOAL = 0.80
RSS_GOAL = 60  # MiB
RUNS = 3
VERIFY = (
    "import sys; sys.path.insert(0, sys.argv[1])\n"
    "from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.archive import verify_file\n"
    "verify_file(sys.argv[2])\n"
    # Not ru_maxrss, which begins with the memory of the process that forked.
    "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])\n"
)
PIPELINE = 'gzip -dc "$1" | sha256sum'


def timed(command: list[str]) -> tuple[float, str]:
    """Run a command; return its seconds and what it printed."""
    start = time.perf_counter()
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return time.perf_counter() - start, output


def compare(kind: str, path: Path, mebibytes: int, collections: Path) -> bool:
    """Time both on path, in turns, and print one line. Return whether the goals are met."""
    ours, theirs, peaks = [], [], []
    for _unused in range(RUNS):
        seconds, kibibytes = timed([sys.executable, "-c", VERIFY, str(collections), str(path)])
        ours.append(seconds)
        peaks.append(int(kibibytes) / 1024)
        theirs.append(timed(["sh", "-c", PIPELINE, "sh", str(path)])[0])
    own, other, peak = statistics.median(ours), statistics.median(theirs), max(peaks)
    print(
        f"verify {mebibytes} MiB {kind}: {own:.2f} s ({mebibytes / own:.0f} MiB/s) vs gzip|sha256sum {other:.2f} s "
        f"({mebibytes / other:.0f} MiB/s)  speed ratio {other / own:.2f} (goal >= {GOAL:.2f})  "
        f"peak RSS {peak:.0f} MiB (goal < {RSS_GOAL})",
        flush=True,
    )
    return other / own >= GOAL and peak < RSS_GOAL


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("mebibytes", nargs="?", type=int, default=512, help="size of the values in each snapshot")
    mebibytes = parser.parse_args().mebibytes
    kinds = {
        "incompressible": archives.Entries(mebibytes * 2**20, 64 * 2**10, 512 * 2**10),
        "1 KiB values, half compressible": archives.Entries(mebibytes * 2**20, 900, 1150, compressible=0.5),
    }
    met = True
    with tempfile.TemporaryDirectory(prefix="custodes-verify-") as folder:
        collections = Path(folder, "collections")
        namespace = collections / "ansible_collections" / "custodes"
        namespace.mkdir(parents=True)
        (namespace / "security_dr").symlink_to(TESTS.parent)
        path = Path(folder, "vault.snap")
        for kind, entries in kinds.items():
            if shutil.disk_usage(folder).free < mebibytes * 2**21:
                raise SystemExit(f"{folder} has no room for {2 * mebibytes} MiB; point TMPDIR elsewhere")
            archives.write_archive(path, entries)
            met = compare(kind, path, mebibytes, collections) and met
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
