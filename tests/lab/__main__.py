# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m lab up`: a complete lab to try things on, until Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

from .lab import Lab
from .processes import LabError
from .seed import Seed, seed
from .vault import VaultCluster

_USAGE = "usage: python -m lab up\n"
_BUCKET = "vault-snapshots"


def _describe(lab: Lab, cluster: VaultCluster, seeded: Seed) -> str:
    addresses = "\n".join(
        f"  {node.name}  {node.address}  log {node.log_file}" + ("  <- active" if node is cluster.leader() else "")
        for node in cluster.nodes
    )
    return f"""
Vault, {len(cluster.nodes)} nodes that unseal by KMS:
{addresses}
  VAULT_ADDR={cluster.leader().address}
  VAULT_CACERT={cluster.ca_file}
  root token in {cluster.root_token_file}, userpass login {seeded.user} / {seeded.password}
  canaries {seeded.canary} and {seeded.canary_v1}, credentials from database/creds/readonly
S3 and KMS: {lab.moto.endpoint}, bucket {_BUCKET}, region {lab.moto.region}
  AWS_ACCESS_KEY_ID={lab.moto.access_key} AWS_SECRET_ACCESS_KEY={lab.moto.secret_key}
PostgreSQL: 127.0.0.1:{lab.postgres.port}
Ansible inventory: {lab.inventory(cluster)}

Ctrl-C stops everything and removes {lab.folder}
"""


def _up() -> None:
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    with Lab() as lab:
        lab.moto.create_bucket(_BUCKET, versioned=True)
        cluster = lab.cluster()
        cluster.initialize()
        seeded = seed(cluster, lab)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end)
        print(_describe(lab, cluster, seeded), flush=True)
        ended.wait()
        print("stopping", flush=True)


def main() -> int:
    """Run the command line; return its exit status."""
    if sys.argv[1:] != ["up"]:
        sys.stderr.write(_USAGE)
        return 2
    try:
        _up()
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
