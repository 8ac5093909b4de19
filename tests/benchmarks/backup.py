# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure a whole run of the backup, beside a cron job and a bare download, and the retention of many objects.

    python -m benchmarks.backup [MEBIBYTES]

Ours: take, verify, upload with SSE-KMS, compare the stored checksum, write the manifest, all in one pass. The cron job:
`vault operator raft snapshot save`, `inspect`, and boto3's upload_file with SSE-KMS, one after the other. The bare
download: curl to nowhere. OpenBao's CLI has no `inspect`: there it is `gzip --test`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.retention import Retention, plan
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores import open_store
from benchmarks._measure import BenchmarkError, Cost, Row, Run, cpu_ratio, main, note, ratio, run, vault_version
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
if [ -n "$OPENBAO" ]; then gzip --test "$2"; else "$1" operator raft snapshot inspect "$2" >/dev/null; fi
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
        raise BenchmarkError(f"the backup failed: {report}")
    return done


def cron(lab: Lab, cluster: VaultCluster) -> Run:
    """The three steps of a cron job."""
    env = {
        **lab.moto.environment,
        "VAULT_ADDR": cluster.leader().address,
        "VAULT_CACERT": str(cluster.ca_file),
        "VAULT_TOKEN": cluster.root_token,
        "OPENBAO": "yes" if vault_version().startswith("OpenBao") else "",
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


def compare(lab: Lab, cluster: VaultCluster) -> list[tuple[Run, Run, Run]]:
    """Run all three in turns: ours, the cron job, the bare download."""
    return [(ours(lab, cluster), cron(lab, cluster), get(cluster, lab.folder)) for _unused in range(RUNS)]


def put_many(lab: Lab) -> datetime:
    """Fill a prefix of the bucket with OBJECTS objects, half of them manifests. Return the time of the newest one."""
    s3, now = lab.moto.s3(), datetime.now(timezone.utc).replace(microsecond=0)

    def put(number: int) -> None:
        name = f"many/prod-{now - timedelta(hours=6 * number):%Y%m%dT%H%M%SZ}.snap"
        s3.put_object(Bucket=BUCKET, Key=name, Body=b"x")
        s3.put_object(Bucket=BUCKET, Key=f"{name}.json", Body=b'{"flagged": null}')

    with ThreadPoolExecutor(8) as pool:
        for _unused in pool.map(put, range(OBJECTS // 2)):
            pass
    return now


def retention(lab: Lab, now: datetime) -> Cost:
    """Return the cost of listing the objects of `put_many` and planning what goes."""
    start, cpu = time.perf_counter(), time.process_time()
    store = open_store(destination(lab, "many"))
    entries = store.listing()
    rule = Retention(max_age_days=30, min_count=7, daily=30, weekly=8, monthly=12)
    going = plan(entries, now, rule, lambda entry: not (store.read_manifest(entry.name) or {})["flagged"])
    cost = Cost(time.perf_counter() - start, time.process_time() - cpu)
    if not len(entries) == OBJECTS // 2 > len(going) > OBJECTS // 3:
        raise BenchmarkError(f"the plan is wrong: {len(going)} of {len(entries)} snapshots go")
    return cost


def listing(lab: Lab) -> Cost:
    """Return the cost of the least that a script would do: print what boto3 lists."""
    start, cpu = time.perf_counter(), time.process_time()
    pages = lab.moto.s3().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="many/", Delimiter="/")
    found = sum(len(page["Contents"]) for page in pages)
    cost = Cost(time.perf_counter() - start, time.process_time() - cpu)
    if found != OBJECTS:
        raise BenchmarkError(f"boto3 lists {found} of {OBJECTS} objects")
    return cost


def measure_retention(lab: Lab) -> Iterator[Row]:
    now = put_many(lab)
    pairs = [(retention(lab, now), listing(lab)) for _unused in range(RUNS)]
    own, other = (
        Cost(*(statistics.median(getattr(pair[side], name) for pair in pairs) for name in ("seconds", "cpu")))
        for side in (0, 1)
    )
    what = f"listing {OBJECTS} objects and planning the retention"
    yield Row(f"{what}, beside boto3's listing alone", own.seconds or 0, "s", OBJECTS_GOAL, ours=own, theirs=other)
    ratio_of = statistics.median((pair[0].seconds or 0) / (pair[1].seconds or 1) for pair in pairs)
    yield Row("the same as a ratio", ratio_of, "x")


def measure(mebibytes: int) -> Iterator[Row]:
    with Lab() as lab:
        note(vault_version())
        lab.moto.create_bucket(BUCKET)
        yield from measure_retention(lab)
        cluster = lab.cluster(nodes=1)
        cluster.initialize()
        seed(cluster)
        fill(cluster, SMALL)
        small = compare(lab, cluster)
        fill(cluster, mebibytes)
        large = compare(lab, cluster)
    what = f"backup of {mebibytes} MiB to S3"
    by_job = ratio(f"{what} vs save, inspect, upload", [(own, job) for own, job, _get in large], SHELL_GOAL)
    yield by_job
    yield cpu_ratio(by_job)
    yield ratio(f"{what} vs curl to /dev/null", [(own, bare) for own, _job, bare in large], GET_GOAL)
    peak = max(own.peak_mib for own, _job, _get in [*small, *large])
    yield Row(f"backup, peak memory at {SMALL} and {mebibytes} MiB", peak, "MiB", RSS_GOAL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("mebibytes", nargs="?", type=int, default=512)
    sys.exit(main(lambda: measure(parser.parse_args().mebibytes)))
