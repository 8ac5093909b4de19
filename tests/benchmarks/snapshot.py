# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure how fast vault_raft_snapshot takes a verified snapshot, beside a bare curl to nowhere, and its memory.

    python -m benchmarks.snapshot [MEBIBYTES]

curl only receives. The module finds the leader, verifies, writes and syncs, and the start of Python counts too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks._measure import BenchmarkError, Row, Run, cpu_ratio, main, note, ratio, run, vault_version
from lab import Lab
from lab.seed import fill, seed
from lab.vault import VaultCluster

RATIO_GOAL = 1.15
RSS_GOAL = 96.0
SMALL = 64
RUNS = 3
MODULE = "ansible_collections.custodes.security_dr.plugins.modules.vault_raft_snapshot"


def ours(cluster: VaultCluster, folder: Path) -> Run:
    """The module itself, as Ansible starts it on a host."""
    arguments = folder / "arguments.json"
    arguments.touch(mode=0o600)
    options = {
        "url": cluster.leader().address,
        "ca_cert": str(cluster.ca_file),
        "token": cluster.root_token,
        "dest": str(folder / "vault.snap"),
    }
    arguments.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": options}))
    done = run([sys.executable, "-m", MODULE, str(arguments)])
    if not json.loads(done.output)["verified"]:
        raise BenchmarkError(f"the snapshot was not verified: {done.output}")
    return done


def theirs(cluster: VaultCluster, folder: Path) -> Run:
    """curl, with the token in a file of its own rather than in the process list."""
    header = folder / "header"
    header.touch(mode=0o600)
    header.write_text(f"X-Vault-Token: {cluster.root_token}\n")
    url = f"{cluster.leader().address}/v1/sys/storage/raft/snapshot"
    return run(["curl", "-sSf", "--cacert", str(cluster.ca_file), "-H", f"@{header}", "-o", "/dev/null", url])


def compare(cluster: VaultCluster, folder: Path) -> list[tuple[Run, Run]]:
    """Run both in turns."""
    return [(ours(cluster, folder), theirs(cluster, folder)) for _unused in range(RUNS)]


def measure(mebibytes: int) -> Iterator[Row]:
    with Lab() as lab:
        note(vault_version())
        cluster = lab.cluster(nodes=1)
        cluster.initialize()
        seed(cluster)
        fill(cluster, SMALL)
        small = compare(cluster, lab.folder)
        fill(cluster, mebibytes)
        large = compare(cluster, lab.folder)
    row = ratio(f"vault_raft_snapshot of {mebibytes} MiB, verified, vs curl to /dev/null", large, RATIO_GOAL)
    yield row
    yield cpu_ratio(row)
    peak = max(run.peak_mib for run, _curl in [*small, *large])
    yield Row(f"vault_raft_snapshot, peak memory at {SMALL} and {mebibytes} MiB", peak, "MiB", RSS_GOAL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("mebibytes", nargs="?", type=int, default=512)
    sys.exit(main(lambda: measure(parser.parse_args().mebibytes)))
