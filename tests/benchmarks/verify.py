# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure how fast a snapshot is verified, beside `gzip -dc FILE | sha256sum`, and in how much memory.

    python -m benchmarks.verify [MEBIBYTES]

The pipeline only decompresses and hashes once. verify_file also hashes the archive, checks the format and counts keys.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks._measure import BenchmarkError, Cost, Row, main, run
from lab import archives

GOAL = 0.80
RSS_GOAL = 60  # MiB
RUNS = 3
VERIFY = (
    "import sys\n"
    "from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.archive import verify_file\n"
    "verify_file(sys.argv[1])\n"
)
PIPELINE = 'set -o pipefail; gzip -dc "$1" | sha256sum'


def compare(kind: str, path: Path, mebibytes: int) -> Iterator[Row]:
    """Run both on a file, in turns."""
    pairs = [
        (run([sys.executable, "-c", VERIFY, str(path)]), run(["bash", "-c", PIPELINE, "bash", str(path)]))
        for _unused in range(RUNS)
    ]
    ours, theirs = Cost.of([pair[0] for pair in pairs]), Cost.of([pair[1] for pair in pairs])
    yield Row(
        f"verification of {mebibytes} MiB, {kind}, speed vs gzip and sha256sum",
        statistics.median(pair[1].seconds / pair[0].seconds for pair in pairs),
        "x",
        GOAL,
        least=True,
        ours=ours,
        theirs=theirs,
    )
    yield Row(f"verification, {kind}, peak memory", max(pair[0].peak_mib for pair in pairs), "MiB", RSS_GOAL)


def measure(mebibytes: int) -> Iterator[Row]:
    kinds = {
        "incompressible": archives.Entries(mebibytes * 2**20, 64 * 2**10, 512 * 2**10),
        "1 KiB values, half compressible": archives.Entries(mebibytes * 2**20, 900, 1150, compressible=0.5),
    }
    with tempfile.TemporaryDirectory(prefix="custodes-verify-") as folder:
        path = Path(folder, "vault.snap")
        for kind, entries in kinds.items():
            if shutil.disk_usage(folder).free < mebibytes * 2**21:
                raise BenchmarkError(f"{folder} has no room for {2 * mebibytes} MiB. Point TMPDIR elsewhere.")
            archives.write_archive(path, entries)
            yield from compare(kind, path, mebibytes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("mebibytes", nargs="?", type=int, default=512, help="size of the values in each snapshot")
    sys.exit(main(lambda: measure(parser.parse_args().mebibytes)))
