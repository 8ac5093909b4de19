# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: back up a real cluster of three nodes to S3, destroy all of it, and recover it with the playbook."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.report.charts import duration
from lab import Lab, LabError
from lab.binaries import server
from lab.cache import cache_folder
from lab.playbook import RECOVER_VAULT, ROOT, Playbook
from lab.progress import Progress, table
from lab.seed import AppRole, Seed, seed
from lab.vault import VaultCluster

BACK_UP_VAULT = "tests/lab/playbooks/back-up-vault.yml"
BUCKET = "vault-snapshots"
OUTPUT = ROOT / "build" / "demo"
PAGE = OUTPUT / "recovery.html"
PARTS = 6


def login(role: AppRole) -> dict[str, str]:
    """Return the options of an AppRole login."""
    return {"auth_method": "approle", "role_id": role.role_id, "secret_id": role.secret_id}


def create_store(lab: Lab) -> dict[str, Any]:
    """Create a bucket, and return its options as the modules take them."""
    cloud = lab.moto
    return {
        "type": "s3",
        "bucket": cloud.create_bucket(BUCKET, versioned=True),
        "prefix": "prod",
        "region": cloud.region,
        "endpoint_url": cloud.endpoint,
        "addressing_style": "path",
        "access_key": cloud.environment["AWS_ACCESS_KEY_ID"],
        "secret_key": cloud.environment["AWS_SECRET_ACCESS_KEY"],
        "kms_key_id": cloud.key_id,
    }


def start(lab: Lab, progress: Progress) -> tuple[VaultCluster, Seed]:
    """Start the cluster, and write into it what a cluster in production has."""
    with progress.task("Start S3 and a KMS (moto)"):
        lab.moto.start()
    with progress.task("Start and initialize three nodes: TLS, Raft, auto-unseal by the KMS"):
        cluster = lab.cluster("prod")
        cluster.initialize(wait_voters=False)
    with progress.task("Write secrets, policies and logins, and connect a database"):
        seeded = seed(cluster, lab)
    if not seeded.dynamic_canaries:
        progress.note(f"This {cluster.server} has no database engine: the demo leaves out database credentials.")
    return cluster, seeded


def back_up(lab: Lab, progress: Progress, inventory: Path, seeded: Seed, store: dict[str, Any]) -> None:
    """Run the backup that a scheduled job runs."""
    variables = {
        "backup_role_id": seeded.snapshot.role_id,
        "backup_secret_id": seeded.snapshot.secret_id,
        "backup_state_directory": str(lab.folder / "backup-state"),
        "backup_store": store,
    }
    progress.play(Playbook(variables, lab.folder / "backup", inventory, BACK_UP_VAULT))


def recover(lab: Lab, progress: Progress, inventory: Path, seeded: Seed, store: dict[str, Any]) -> dict[str, Any]:
    """Run the recovery, and copy its record and page, of a failed one as well, to OUTPUT. Returns the record."""
    folder = lab.folder / "recovery"
    variables = {
        "vault_recovery_snapshot": "latest",
        "vault_recovery_store": store,
        "vault_recovery_directory": str(folder),
        "vault_recovery_auth": login(seeded.recovery),
        "vault_recovery_canaries": [seeded.canary, seeded.canary_v1],
        "vault_recovery_dynamic_canaries": list(seeded.dynamic_canaries),
    }
    progress.note(
        f"recovery.json: vault_recovery_snapshot=latest, vault_recovery_store=s3://{store['bucket']}/{store['prefix']},"
        " a login, canaries"
    )
    try:
        progress.play(Playbook(variables, folder, inventory, RECOVER_VAULT))
    finally:
        publish(folder)
    record: dict[str, Any] = json.loads(PAGE.with_suffix(".json").read_text())
    return record


def publish(folder: Path) -> None:
    """Copy the record and the page of a recovery, those that exist, to OUTPUT."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("recovery-*"):
        if file.suffix in (".json", ".html"):
            shutil.copy(file, PAGE.with_suffix(file.suffix))


def prove(lab: Lab, cluster: VaultCluster, root_token: str, seeded: Seed) -> list[str]:
    """Read back, with a token that the lost cluster had issued, what was written before the disaster.

    Raises:
        LabError: something is not as it was.
    """
    for node in cluster.nodes:
        answer = node.request("GET", seeded.canary.replace("secret/", "secret/data/"), token=root_token)
        if not answer.ok or answer.json()["data"]["data"] != seeded.value:
            raise LabError(f"{node.address} answered {answer.status_code} to {seeded.canary}: {answer.text[:300]}")
    proofs = [f"{seeded.canary} has the value of before the disaster at each of {len(cluster.nodes)} nodes"]
    for path in seeded.dynamic_canaries:
        issued = cluster.client(token=root_token).read(path)["data"]
        lab.postgres.query("SELECT 1", user=issued["username"], password=issued["password"])
        proofs.append(f"{path} issued a user that PostgreSQL accepted")
    return proofs


def summary(record: dict[str, Any], proofs: list[str]) -> list[str]:
    """Return the result in a few lines."""
    static = sorted({one["path"] for one in record["secrets"] if one["kind"] != "dynamic"})
    snapshot = record["snapshot"]
    rows = [
        ("Readable again after", against_objective(record, "rto")),
        ("Age of the snapshot", against_objective(record, "rpo")),
        ("Snapshot", f"{snapshot['store']}/{Path(snapshot['path']).name}, verified"),
        ("Canaries read", f"{', '.join(static)} at each of {len(record['nodes'])} nodes"),
        ("Tolerates the loss of a node", {True: "yes", False: "not yet", None: "not known"}[record["redundant"]]),
        ("With a token of the lost cluster", proofs[0]),
        *(("", proof) for proof in proofs[1:]),
    ]
    return table(rows)


def against_objective(record: dict[str, Any], name: str) -> str:
    """Return a time of the record and its objective."""
    met = {True: "met", False: "MISSED", None: "not measured"}[record[f"{name}_met"]]
    return f"{duration(record[f'{name}_seconds'])} (objective {duration(record[f'{name}_objective_seconds'])}: {met})"


def demo(lab: Lab, progress: Progress) -> None:
    """Run the demo from its first part to the page."""
    progress.part("Start a cluster and fill it")
    cluster, seeded = start(lab, progress)
    inventory, root_token, store = lab.inventory(cluster), cluster.root_token, create_store(lab)
    progress.part("Back the cluster up to S3, with the module vault_snapshot_backup")
    back_up(lab, progress, inventory, seeded, store)
    progress.part("Lose the cluster")
    with progress.task("Kill all three nodes, delete their data, start fresh and empty nodes"):
        cluster.wipe_and_start()
    progress.part("Recover the cluster from the newest snapshot in S3, with the playbook recover-vault.yml")
    record = recover(lab, progress, inventory, seeded, store)
    progress.part("Read secrets with a token that the lost cluster had issued")
    with progress.task("Ask every node"):
        proofs = prove(lab, cluster, root_token, seeded)
    progress.part("Result")
    for line in summary(record, proofs):
        progress.line(line)
    progress.line(f"\n  The page of this recovery is {PAGE.relative_to(ROOT)}: open it in a browser.")


def main(arguments: list[str]) -> int:
    """Run the demo. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--verbose", action="store_true", help="show all of Ansible's output (make demo V=1)")
    progress = Progress(PARTS, verbose=parser.parse_args(arguments).verbose)
    # A failed demo must not leave the page of an earlier one.
    shutil.rmtree(OUTPUT, ignore_errors=True)
    try:
        found = server(progress=progress.note)
        progress.line(f"This demo runs {found.description}")
        progress.line("Another one: make demo VAULT_BIN=/path/to/vault-or-bao. All of Ansible's output: make demo V=1.")
        with Lab() as lab:
            try:
                demo(lab, progress)
            except LabError as error:
                raise LabError(f"{error}\n{lab.logs('make demo')}") from error
    except LabError as error:
        progress.line()
        sys.stderr.write(f"demo: {error}\n")
        if PAGE.exists():
            sys.stderr.write(f"The page of the recovery is {PAGE.relative_to(ROOT)}: open it in a browser.\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ndemo: interrupted. No server is left running.\n")
        return 130
    progress.line(
        "\nAll of it ran on the loopback interface. No server is left running. "
        f"What stays: the page with its record, .venv,\nand the programs in {cache_folder()}."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
