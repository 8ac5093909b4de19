# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""recover-vault.yml fetches its snapshot from S3, and passes a corrupted newest one over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from lab import Lab
from lab.playbook import Origin, Playbook, make_origin

SECRET_KEY = "store-secret-key"
QUICK = {"vault_recovery_redundant_timeout": 0}


@pytest.fixture(scope="module")
def origin(lab: Lab) -> Iterator[Origin]:
    origin = make_origin(lab, "stored")
    yield origin
    origin.cluster.stop()


@pytest.fixture(scope="module")
def store(lab: Lab, origin: Origin) -> dict[str, Any]:
    """A bucket with the origin's snapshot, and one a minute younger that is damaged."""
    bucket, s3 = lab.moto.create_bucket("recovery"), lab.moto.s3()
    content = origin.snapshot.read_bytes()
    manifest = json.loads(origin.snapshot.with_name(f"{origin.snapshot.name}.json").read_text())
    damaged = bytearray(content)
    damaged[len(damaged) // 2] ^= 0xFF
    for name, body in ((origin.snapshot.name, content), (newest(origin), bytes(damaged))):
        s3.put_object(Bucket=bucket, Key=f"prod/{name}", Body=body)
        s3.put_object(Bucket=bucket, Key=f"prod/{name}.json", Body=json.dumps({**manifest, "name": name}).encode())
    return {
        "type": "s3",
        "bucket": bucket,
        "prefix": "prod",
        "region": lab.moto.region,
        "endpoint_url": lab.moto.endpoint,
        "addressing_style": "path",
        "access_key": "store",
        "secret_key": SECRET_KEY,
    }


def newest(origin: Origin) -> str:
    """The name of the damaged one."""
    taken = datetime.strptime(origin.snapshot.stem.rpartition("-")[2] + "+0000", "%Y%m%dT%H%M%SZ%z")
    return f"stored-{taken + timedelta(minutes=1):%Y%m%dT%H%M%SZ}.snap"


def playbook(origin: Origin, store: dict[str, Any], folder: Any, snapshot: str) -> Playbook:
    return origin.playbook(
        folder, login=origin.seed.recovery, vault_recovery_snapshot=snapshot, vault_recovery_store=store, **QUICK
    )


def test_the_newest_is_corrupted_and_the_one_before_is_restored(
    origin: Origin, store: dict[str, Any], tmp_path: Any
) -> None:
    origin.cluster.wipe_and_start()
    run = playbook(origin, store, tmp_path, "latest")
    checked = run.run("--check")
    assert checked.rc == 0, checked.output
    assert [node.health() for node in origin.cluster.nodes] == [501, 501, 501]

    # Killed in the middle of the fetch, or behind it: it is fetched, or found there, again.
    for task in ("Fetch the snapshot from its store, verified while it arrives", "Ask every node, and decide"):
        killed = run.start()
        killed.wait_for_task(task)
        killed.kill_all()
    done = run.run("-vvv")
    assert done.rc == 0, done.output
    assert SECRET_KEY not in done.output
    for node in origin.cluster.nodes:
        client = origin.cluster.client(node, origin.root_token)
        assert client.read("secret/data/dr/canary")["data"]["data"] == origin.seed.value
    record = done.record
    fetched = run.directory / origin.snapshot.name
    assert record["snapshot"]["path"] == str(fetched)
    assert fetched.stat().st_mode & 0o777 == 0o600
    assert record["rpo_seconds"] > 0
    [rejected] = record["rejected_snapshots"]
    assert rejected["path"] == f"s3://recovery/prod/{newest(origin)}"
    assert "state.bin" in rejected["problem"] or "gzip" in rejected["problem"], rejected
    assert f"Not used: {rejected['path']}" in done.output


def test_one_that_is_asked_for_by_its_name_has_no_substitute(
    origin: Origin, store: dict[str, Any], tmp_path: Any
) -> None:
    for snapshot, problem in ((newest(origin), newest(origin)), ("2001-01-01T00:00:00Z", "there is none")):
        refused = playbook(origin, store, tmp_path, snapshot).run()
        assert refused.rc == 2, refused.output
        assert f"No snapshot for '{snapshot}' can be used: " in refused.words
        assert problem in refused.words
    alone = playbook(origin, {}, tmp_path, "latest").run()
    assert "'latest' is one of vault_recovery_store" in alone.words
