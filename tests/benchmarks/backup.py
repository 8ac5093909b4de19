# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole run of the backup next to what a cron job does, and next to a bare download; and retention over many objects.

    python -m benchmarks.backup [MEBIBYTES]

Ours: take, verify, upload with SSE-KMS, compare the stored checksum, write the manifest, all in one pass. The cron job:
`vault operator raft snapshot save`, `inspect`, and boto3's upload_file with SSE-KMS, one after the other. The bare
download: curl to nowhere. Ends with status 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.retention import Retention, plan
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores import open_store
from benchmarks._measure import Run, run, verdict
from lab import Lab
from lab.binaries import vault_binary
from lab.pki import write_private
from lab.seed import fill, seed
from lab.vault import VaultCluster

SHELL_GOAL = 0.75
GET_GOAL = 1.25
RSS_GOAL = 96.0
OBJECTS, OBJECTS_GOAL = 10_000, 5.0
SMALL = 64
RUNS = 3
BUCKET = "backup"

OURS = """
import json, sys
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.job import run_job
report = run_job(json.load(open(sys.argv[1])), {})
print(json.dumps(report.to_dict()))
"""
CRON = """set -eu
umask 077
"$1" operator raft snapshot save "$2"
"$1" operator raft snapshot inspect "$2" >/dev/null
"$3" -c '
import boto3, sys
path, bucket, key = sys.argv[1:]
extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}
boto3.client("s3").upload_file(path, bucket, "cron/vault.snap", ExtraArgs=extra)
' "$2" "$4" "$5"
"""


def destination(lab: Lab, prefix: str) -> dict[str, Any]:
    """The bucket as a destination."""
    return {
        "type": "s3",
        "bucket": BUCKET,
        "prefix": prefix,
        "region": lab.moto.region,
        "endpoint_url": lab.moto.endpoint,
        "access_key": lab.moto.environment["AWS_ACCESS_KEY_ID"],
        "secret_key": lab.moto.environment["AWS_SECRET_ACCESS_KEY"],
        "kms_key_id": lab.moto.key_id,
    }


def ours(lab: Lab, cluster: VaultCluster) -> Run:
    """A run as the agent does it: a process of its own, a config in a file."""
    config = {
        "vault": {"url": cluster.leader().address, "ca_cert": str(cluster.ca_file), "token": cluster.root_token},
        "destinations": [{**destination(lab, "ours"), "retention": {"max_age_days": 0, "min_count": 1}}],
        "state_directory": str(lab.folder / "state"),
        "metrics_file": str(lab.folder / "vault.prom"),
        "read_back_every": 0,
    }
    file = lab.folder / "config.json"
    file.unlink(missing_ok=True)
    write_private(file, json.dumps(config).encode())
    done = run([sys.executable, "-c", OURS, str(file)])
    report = json.loads(done.output)
    if report["result"] != "success" or report["destinations"][0]["proof"] != "checksum":
        raise SystemExit(f"the run failed: {report}")
    return done


def cron(lab: Lab, cluster: VaultCluster) -> Run:
    """The three steps of a cron job."""
    env = {
        **lab.moto.environment,
        "VAULT_ADDR": cluster.leader().address,
        "VAULT_CACERT": str(cluster.ca_file),
        "VAULT_TOKEN": cluster.root_token,
    }
    snapshot = lab.folder / "cron.snap"
    snapshot.unlink(missing_ok=True)
    words = [str(vault_binary()), str(snapshot), sys.executable, BUCKET, lab.moto.key_id]
    return run(["sh", "-c", CRON, "sh", *words], env)


def get(cluster: VaultCluster, folder: Path) -> Run:
    """curl, with the token in a file of its own rather than in the process list."""
    header = folder / "header"
    header.unlink(missing_ok=True)
    write_private(header, f"X-Vault-Token: {cluster.root_token}\n".encode())
    url = f"{cluster.leader().address}/v1/sys/storage/raft/snapshot"
    return run(["curl", "-sSf", "--cacert", str(cluster.ca_file), "-H", f"@{header}", "-o", "/dev/null", url])


def compare(lab: Lab, cluster: VaultCluster, mebibytes: int) -> tuple[float, float, float]:
    """All three in turns; prints a line and returns ours by the cron job's, by the GET's, and our peak in MiB."""
    rounds = [(ours(lab, cluster), cron(lab, cluster), get(cluster, lab.folder)) for _unused in range(RUNS)]
    own, job, bare = (statistics.median(one[side].seconds for one in rounds) for side in range(3))
    peak = max(one[0].peak_mib for one in rounds)
    print(
        f"backup of {mebibytes} MiB to S3: {own:.2f} s vs save, inspect, upload {job:.2f} s  ratio {own / job:.2f}  "
        f"vs curl to /dev/null {bare:.2f} s  ratio {own / bare:.2f}  peak RSS {peak:.0f} MiB",
        flush=True,
    )
    return own / job, own / bare, peak


def retention(lab: Lab) -> float:
    """Seconds to list a bucket of OBJECTS objects, half of them manifests, and to plan what goes."""
    s3, now = lab.moto.s3(), datetime.now(timezone.utc).replace(microsecond=0)

    def put(number: int) -> None:
        name = f"many/prod-{now - timedelta(hours=6 * number):%Y%m%dT%H%M%SZ}.snap"
        s3.put_object(Bucket=BUCKET, Key=name, Body=b"x")
        s3.put_object(Bucket=BUCKET, Key=f"{name}.json", Body=b'{"flagged": null}')

    with ThreadPoolExecutor(8) as pool:
        for _unused in pool.map(put, range(OBJECTS // 2)):
            pass
    store = open_store(destination(lab, "many"))
    start = time.perf_counter()
    entries = store.listing()
    rule = Retention(max_age_days=30, min_count=7, daily=30, weekly=8, monthly=12)
    going = plan(entries, now, rule, lambda entry: not (store.read_manifest(entry.name) or {})["flagged"])
    seconds = time.perf_counter() - start
    print(f"retention over {OBJECTS} objects: {seconds:.2f} s, {len(going)} of {len(entries)} go", flush=True)
    if not len(entries) == OBJECTS // 2 > len(going) > OBJECTS // 3:
        raise SystemExit("the plan is not what it should be")
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("mebibytes", nargs="?", type=int, default=512)
    mebibytes = parser.parse_args().mebibytes
    with Lab() as lab:
        lab.moto.create_bucket(BUCKET)
        cluster = lab.cluster(nodes=1)
        cluster.initialize()
        seed(cluster)
        fill(cluster, SMALL)
        peak_small = compare(lab, cluster, SMALL)[2]
        fill(cluster, mebibytes)
        by_job, by_get, peak = compare(lab, cluster, mebibytes)
        seconds = retention(lab)
    goals = {
        f"ratio to the cron job <= {SHELL_GOAL}": by_job <= SHELL_GOAL,
        f"to the GET <= {GET_GOAL}": by_get <= GET_GOAL,
        f"peak RSS <= {RSS_GOAL:.0f} MiB": max(peak, peak_small) <= RSS_GOAL,
        f"retention <= {OBJECTS_GOAL:g} s": seconds <= OBJECTS_GOAL,
    }
    print("  " + "; ".join(f"{goal}: {verdict(met)}" for goal, met in goals.items()))
    return 0 if all(goals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
