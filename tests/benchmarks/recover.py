# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long recover-vault.yml takes on three nodes, next to a shell script with the vault CLI that does the same steps.

    python -m benchmarks.recover

Both begin with the servers up and fresh, and end when all three nodes have answered the canary. The playbook does more
until then (lock, journal, preflight, free space); what it does after it (redundancy, record) is in its total.
Ends with status 1 when a goal is missed.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from datetime import datetime
from pathlib import Path

from benchmarks._measure import run, verdict
from lab import Lab
from lab.binaries import vault_binary
from lab.pki import write_private
from lab.playbook import Origin, make_origin

RATIO_GOAL = 1.5
SECONDS_GOAL = 60.0
RUNS = 3
SCRIPT = Path(__file__).with_name("recover.sh")


def ours(origin: Origin, folder: Path) -> tuple[float, float]:
    """Seconds until all nodes have answered the canary, and until the playbook has ended."""
    playbook = origin.playbook(folder, login=origin.seed.recovery)
    began = time.time()
    finished = playbook.run()
    total = time.time() - began
    if finished.rc != 0:
        raise SystemExit(finished.output)
    readable = next(step for step in finished.record["steps"] if step["name"].startswith("Canaries readable"))
    ended = datetime.fromisoformat(readable["started_at"]).timestamp() + readable["seconds"]
    return ended - began, total


def theirs(origin: Origin, folder: Path) -> float:
    """Seconds of the script; its secrets reach it in a file and the environment."""
    secret_id = folder / "secret-id"
    write_private(secret_id, origin.seed.recovery.secret_id.encode())
    binary = folder / "bin" / "vault"
    binary.parent.mkdir(exist_ok=True)
    if not binary.exists():
        binary.symlink_to(vault_binary())
    environment = {
        "PATH": f"{binary.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "VAULT_CACERT": str(origin.cluster.ca_file),
        "NODES": " ".join(origin.cluster.addresses),
        "SNAPSHOT": str(origin.snapshot),
        "ROLE_ID": origin.seed.recovery.role_id,
        "SECRET_ID_FILE": str(secret_id),
        "CANARIES": f"{origin.seed.canary} {origin.seed.canary_v1}",
        "WORK": str(folder),
    }
    return run(["timeout", "180", "bash", str(SCRIPT)], environment).seconds


def main() -> int:
    rows = []
    with Lab() as lab:
        origin = make_origin(lab)
        for number in range(RUNS):
            origin.cluster.wipe_and_start()
            folder = lab.folder / f"ours-{number}"
            folder.mkdir(mode=0o700)
            readable, total = ours(origin, folder)
            shutil.rmtree(folder)
            origin.cluster.wipe_and_start()
            folder = lab.folder / f"script-{number}"
            folder.mkdir(mode=0o700)
            rows.append((readable, total, theirs(origin, folder)))
    readable, total, script = (statistics.median(column) for column in zip(*rows, strict=True))
    ratio = readable / script
    print(
        f"recover-vault.yml, 3 nodes: canary at every node after {readable:.1f} s vs shell script {script:.1f} s  "
        f"ratio {ratio:.2f}; playbook ended, redundant and recorded, after {total:.1f} s"
    )
    fast, bounded = ratio <= RATIO_GOAL, max(row[1] for row in rows) <= SECONDS_GOAL
    print(f"  ratio <= {RATIO_GOAL}: {verdict(fast)}; every run <= {SECONDS_GOAL:.0f} s: {verdict(bounded)}")
    return 0 if fast and bounded else 1


if __name__ == "__main__":
    sys.exit(main())
