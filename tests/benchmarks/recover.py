# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure recover-vault.yml on three nodes, beside a shell script with the vault CLI that does the same steps.

    python -m benchmarks.recover

Both begin with the servers up and empty, and end when all three nodes have answered the canaries. The playbook does
more until then (lock, journal, preflight, free space). What it does afterwards (redundancy, record) is in its total.
A round in which a side has to restart Vault, as a node has missed the restore's change of keys, does not count for the
ratio. No dynamic canary is read: the script reads none, and a Vault of `-tags minimal` has no database engine.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from benchmarks._measure import BenchmarkError, Row, Run, failure, main, note, ratio, run, vault_version
from lab import Lab
from lab.binaries import vault_binary
from lab.pki import write_private
from lab.playbook import RESTART, Origin, make_origin

RATIO_GOAL = 1.5
SECONDS_GOAL = 60.0
RUNS, MOST_ROUNDS = 3, 8
TIMEOUT = 300.0
SCRIPT = Path(__file__).with_name("recover.sh")
RESTARTED = "Restarting Vault on every node."
"""What the script prints when it has to."""


def ours(origin: Origin, folder: Path) -> tuple[Run, float, bool]:
    """Recover by the playbook: until all nodes have answered the canaries; seconds until its end; without a restart."""
    playbook = origin.playbook(folder, login=origin.seed.recovery, vault_recovery_dynamic_canaries=[])
    began, before = time.time(), os.times()
    finished = playbook.run(timeout=TIMEOUT)
    total, after = time.time() - began, os.times()
    if finished.rc != 0:
        how = f"ended with exit status {finished.rc}"
        raise BenchmarkError(failure("recover-vault.yml", how, total, finished.output))
    steps = {step["name"]: step for step in finished.record["steps"]}
    readable = steps["Canaries readable at every node"]
    ended = datetime.fromisoformat(readable["started_at"]).timestamp() + readable["seconds"]
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(ended - began, cpu, 0.0, finished.output), total, RESTART not in steps


def theirs(origin: Origin, folder: Path) -> Run:
    """Recover by the script; it gets its secrets in a file and the environment."""
    secret_id = folder / "secret-id"
    write_private(secret_id, origin.seed.recovery.secret_id.encode())
    binary = folder / "bin" / "vault"
    binary.parent.mkdir()
    binary.symlink_to(vault_binary())
    nodes = origin.cluster.nodes
    environment = {
        "PATH": f"{binary.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "VAULT_CACERT": str(origin.cluster.ca_file),
        "NODES": " ".join(origin.cluster.addresses),
        "SNAPSHOT": str(origin.snapshot),
        "ROLE_ID": origin.seed.recovery.role_id,
        "SECRET_ID_FILE": str(secret_id),
        "CANARIES": f"{origin.seed.canary} {origin.seed.canary_v1}",
        "RESTART": "; ".join(origin.cluster.command(node, verb) for verb in ("stop", "start") for node in nodes),
        "WORK": str(folder),
    }
    return run(["bash", str(SCRIPT)], environment, name="the shell script recover.sh", timeout=TIMEOUT)


def fresh(lab: Lab, origin: Origin, name: str) -> Path:
    """Return a private folder, once the nodes are up and empty."""
    origin.cluster.wipe_and_start()
    folder = lab.folder / name
    folder.mkdir(mode=0o700)
    return folder


def measure() -> Iterator[Row]:
    pairs: list[tuple[Run, Run]] = []
    totals: list[float] = []
    restarts = {"recover-vault.yml": 0, "the script": 0}
    with Lab() as lab:
        note(vault_version())
        origin = make_origin(lab, database=False, stabilization="10s")
        while len(pairs) < RUNS and len(totals) < MOST_ROUNDS:
            number = len(totals)
            own, total, clean = ours(origin, fresh(lab, origin, f"ours-{number}"))
            other = theirs(origin, fresh(lab, origin, f"script-{number}"))
            totals.append(total)
            restarts["recover-vault.yml"] += not clean
            restarts["the script"] += RESTARTED in other.output
            if clean and RESTARTED not in other.output:
                pairs.append((own, other))
    for side, count in restarts.items():
        note(
            f"recover: {side} had to restart Vault in {count} of {len(totals)} runs (a node missed the change of keys)"
        )
    what = "recover-vault.yml until it has ended, redundant and recorded"
    yield Row(f"{what}, the slowest of {len(totals)}", max(totals), "s", SECONDS_GOAL)
    yield Row(f"{what}, median", statistics.median(totals), "s")
    if len(pairs) < RUNS:
        raise BenchmarkError(f"only {len(pairs)} of {len(totals)} rounds went without a restart of Vault on both sides")
    what = "recover-vault.yml, 3 nodes, until every node answers the canaries"
    yield ratio(f"{what}, vs a shell script", pairs, RATIO_GOAL)


if __name__ == "__main__":
    sys.exit(main(measure))
