# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: a real three-node Vault is lost with all its data, and comes back from a snapshot in S3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab import Lab, LabError
from lab.binaries import vault_binary
from lab.pki import write_private
from lab.playbook import RECOVER_VAULT, ROOT, Playbook, ansible_playbook
from lab.postgres import Postgres
from lab.seed import AppRole, seed
from lab.vault import VaultCluster

BUCKET = "vault-snapshots"
BAR = 40


def say(text: str) -> None:
    """A step of the demo, so that nobody wonders what is going on."""
    print(f"\n=== {text}", flush=True)


def play(name: str, inventory: Path, directory: Path, variables: dict[str, Any]) -> None:
    """Runs a playbook before the spectator's eyes. Raises LabError when it fails."""
    file = directory.with_suffix(".json")
    write_private(file, json.dumps(variables).encode())
    print(f"$ ansible-playbook -i inventory {name} -e @variables.json", flush=True)
    environment = Playbook({}, directory, env={"ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false"}).environment
    command = [*ansible_playbook(), "-i", str(inventory), name, "-e", f"@{file}"]
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0:
        raise LabError(f"{name} failed: the reason is above")


def login(role: AppRole) -> dict[str, str]:
    """An AppRole as the playbooks take it."""
    return {"auth_method": "approle", "role_id": role.role_id, "secret_id": role.secret_id}


def report(record: dict[str, Any]) -> None:
    """The recovery's timeline, drawn to scale."""
    say("The recovery, step by step")
    whole = sum(step["seconds"] for step in record["steps"]) or 1.0
    passed = 0.0
    for step in record["steps"]:
        begin, end = (round(BAR * moment / whole) for moment in (passed, passed + step["seconds"]))
        print(f"  {step['name']:<36} {step['seconds']:>5.1f} s  {' ' * begin}{'#' * max(end - begin, 1)}")
        passed += step["seconds"]
    print(f"\n  readable again after {record['rto_seconds']:.1f} s (objective {record['rto_objective_seconds']:.0f} s)")


def prove(cluster: VaultCluster, postgres: Postgres, root_token: str, secret: dict[str, str], canary: str) -> None:
    """Reads back what must be there, with a token of the lost cluster. Raises LabError when it is not."""
    say("The proof, read with a token that the lost cluster had given out")
    for node in cluster.nodes:
        read = node.request("GET", canary.replace("secret/", "secret/data/"), token=root_token).json()
        if read["data"]["data"] != secret:
            raise LabError(f"{canary} at {node.address} is not what it was")
        print(f"  {canary} at {node.address}: the value that was written before the disaster")
    issued = cluster.client(token=root_token).read("database/creds/readonly")["data"]
    postgres.query("SELECT 1", user=issued["username"], password=issued["password"])
    print(f"  database/creds/readonly: PostgreSQL let {issued['username']} in")


def demo(lab: Lab) -> None:
    """The whole story."""
    say("A real Vault: three nodes, TLS, Raft, unsealed by KMS, with secrets, logins and a PostgreSQL")
    cluster = lab.cluster("prod")
    cluster.initialize()
    seeded = seed(cluster, lab)
    inventory, root_token = lab.inventory(cluster), cluster.root_token
    for node in cluster.nodes:
        print(f"  {node.name}  {node.address}")

    say("A verified snapshot, shipped to S3 with SSE-KMS; the local copy is deleted")
    local = lab.folder / "snapshots"
    local.mkdir(mode=0o700)
    variables = {"vault_snapshot_dest": str(local), "vault_snapshot_auth": login(seeded.snapshot)}
    ca_cert = {"vault_snapshot_ca_cert": str(cluster.ca_file)}
    play("playbooks/snapshot-vault.yml", inventory, lab.folder / "take", {**variables, **ca_cert})
    bucket = lab.moto.create_bucket(BUCKET, versioned=True)
    encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": lab.moto.key_id}
    names = sorted(file.name for file in local.iterdir())
    for name in names:
        lab.moto.s3().upload_file(str(local / name), bucket, name, ExtraArgs=encryption)
        (local / name).unlink()
        print(f"  s3://{bucket}/{name}")

    say("The disaster: every node killed, every data folder deleted. Three fresh, empty hosts take their place")
    cluster.wipe_and_start()
    print(f"  sys/health answers {[node.health() for node in cluster.nodes]}: not initialised")

    say("The recovery: the snapshot comes from S3, the rest is one playbook")
    for name in names:
        lab.moto.s3().download_file(bucket, name, str(local / name))
    recovery = lab.folder / "recovery"
    variables = {
        "vault_recovery_snapshot": str(local),
        "vault_recovery_directory": str(recovery),
        "vault_recovery_auth": login(seeded.recovery),
        "vault_recovery_canaries": [seeded.canary, seeded.canary_v1],
        "vault_recovery_dynamic_canaries": ["database/creds/readonly"],
    }
    play(RECOVER_VAULT, inventory, recovery, variables)
    (record,) = recovery.glob("recovery-*.json")
    report(json.loads(record.read_text()))
    prove(cluster, lab.postgres, root_token, seeded.value, seeded.canary)


def main() -> int:
    say("The Vault server (built from Go modules the first time: 5 to 9 minutes, then cached)")
    try:
        os.environ["VAULT_BIN"] = str(vault_binary(progress=lambda line: print(f"  {line}", flush=True)))
        print(f"  {os.environ['VAULT_BIN']}")
        with Lab() as lab:
            demo(lab)
    except LabError as error:
        sys.stderr.write(f"\ndemo: {error}\n")
        return 1
    print("\nAll of it ran on this machine's loopback; nothing is left running, nothing was kept.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
