# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast vault_raft_snapshot takes a verified snapshot, next to a bare curl to nowhere, and in how much memory.

    python -m benchmarks.snapshot [MEBIBYTES]

curl only receives; the module finds the leader, verifies, writes and syncs, and the start of Python counts too. Ends
with status 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

from benchmarks._measure import Run, run, verdict
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
        raise SystemExit("the snapshot was not verified")
    return done


def theirs(cluster: VaultCluster, folder: Path) -> Run:
    """curl, with the token in a file of its own rather than in the process list."""
    header = folder / "header"
    header.touch(mode=0o600)
    header.write_text(f"X-Vault-Token: {cluster.root_token}\n")
    url = f"{cluster.leader().address}/v1/sys/storage/raft/snapshot"
    return run(["curl", "-sSf", "--cacert", str(cluster.ca_file), "-H", f"@{header}", "-o", "/dev/null", url])


def compare(cluster: VaultCluster, folder: Path, mebibytes: int) -> tuple[float, float]:
    """Both in turns; prints a line and returns the ratio of the medians and the module's peak in MiB."""
    pairs = [(ours(cluster, folder), theirs(cluster, folder)) for _unused in range(RUNS)]
    own, other = (statistics.median(pair[side].seconds for pair in pairs) for side in (0, 1))
    peak = max(pair[0].peak_mib for pair in pairs)
    print(
        f"vault_raft_snapshot {mebibytes} MiB, verified: {own:.2f} s vs curl to /dev/null {other:.2f} s  "
        f"ratio {own / other:.2f}  peak RSS {peak:.0f} MiB",
        flush=True,
    )
    return own / other, peak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("mebibytes", nargs="?", type=int, default=512)
    mebibytes = parser.parse_args().mebibytes
    with Lab() as lab:
        cluster = lab.cluster(nodes=1)
        cluster.initialize()
        seed(cluster)
        fill(cluster, SMALL)
        peak_small = compare(cluster, lab.folder, SMALL)[1]
        fill(cluster, mebibytes)
        ratio, peak = compare(cluster, lab.folder, mebibytes)
    fast, small = ratio <= RATIO_GOAL, max(peak, peak_small) <= RSS_GOAL
    print(
        f"  ratio at {mebibytes} MiB <= {RATIO_GOAL}: {verdict(fast)}; peak RSS <= {RSS_GOAL:.0f} MiB: {verdict(small)}"
    )
    return 0 if fast and small else 1


if __name__ == "__main__":
    sys.exit(main())
