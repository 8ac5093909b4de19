# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backup between a real Vault, a real folder and S3: the good run, and all that can happen to one."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot import backup
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.archive import SnapshotReader, verify_file
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.fetch import fetch
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.job import Report, run_job
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores import open_store
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores.base import Store, Stored
from integration.run_ansible import Ansible, task
from lab import Lab
from lab.faulty import FaultyS3
from lab.pki import write_private
from lab.seed import AppRole, fill, seed
from lab.vault import VaultCluster

LARGE = 20 * 2**20
"""Bytes that a snapshot of the large cluster has at least: more than sockets buffer."""

TWO_PARTS = 8 * 2**20
"""Bytes that a snapshot of the small cluster has at least, which S3 gets in two parts."""

BUCKET = "nightly"
RETENTION = {"max_age_days": 0, "min_count": 1}
"""Prunes at once whatever is not the newest good one."""

KILLS = 30
KEPT = 3


@pytest.fixture(scope="module")
def large(lab: Lab) -> VaultCluster:
    """One node that gets killed while it sends."""
    cluster = lab.cluster("nightly-large", nodes=1, awskms=False)
    cluster.initialize(wait_voters=False)
    cluster.client().sys.enable_secrets_engine("kv", path="kv1", options={"version": "1"})
    fill(cluster, LARGE // 2**20 + 4)
    return cluster


@pytest.fixture(scope="module")
def small(lab: Lab) -> VaultCluster:
    """One node whose snapshots are quick to take, and are two parts in S3 all the same; it gets emptied at the end."""
    cluster = lab.cluster("nightly", nodes=1, awskms=False)
    cluster.initialize(wait_voters=False)
    return cluster


@pytest.fixture(scope="module")
def login(small: VaultCluster) -> AppRole:
    seeded = seed(small)
    fill(small, 9, value_kib=64)
    return seeded.snapshot


def _as_root(cluster: VaultCluster) -> dict[str, Any]:
    return {"url": cluster.nodes[0].address, "ca_cert": str(cluster.ca_file), "token": cluster.root_token}


@dataclass
class Nightly:
    """What a run is told, and what came of it."""

    config: dict[str, Any]
    metrics: Path

    def run(self, now: Callable[[], datetime] = lambda: datetime.now(timezone.utc), **changed: Any) -> Report:
        return run_job({**self.config, **changed}, {}, now=now)

    @cached_property
    def stores(self) -> list[Store]:
        return [open_store(options) for options in self.config["destinations"]]

    @property
    def names(self) -> list[list[str]]:
        return [[entry.name for entry in store.listing()] for store in self.stores]

    def destinations(self, **by_type: dict[str, Any]) -> list[dict[str, Any]]:
        """The destinations with further options for those of a type."""
        return [{**one, **by_type.get(one["type"], {})} for one in self.config["destinations"]]

    def metric(self, sample: str) -> float | None:
        for line in self.metrics.read_text().splitlines():
            if line.startswith(f"vault_snapshot_{sample} "):
                return float(line.rpartition(" ")[2])
        return None


Make = Callable[[Path, FaultyS3], Nightly]


@pytest.fixture(scope="module")
def make(lab: Lab, small: VaultCluster, login: AppRole) -> Make:
    """Make the backup of the small cluster to a folder and, through the proxy, to a bucket."""
    lab.moto.create_bucket(BUCKET)

    def made(folder: Path, proxy: FaultyS3) -> Nightly:
        metrics = folder / "vault_snapshot.prom"
        config = {
            "vault": {
                "url": small.nodes[0].address,
                "ca_cert": str(small.ca_file),
                "auth_method": "approle",
                "role_id": login.role_id,
                "secret_id": login.secret_id,
            },
            "destinations": [
                {"type": "filesystem", "path": str(folder / "backups"), "retention": RETENTION},
                {
                    "type": "s3",
                    "bucket": BUCKET,
                    "prefix": folder.name,
                    "region": lab.moto.region,
                    "endpoint_url": proxy.endpoint,
                    "access_key": lab.moto.environment["AWS_ACCESS_KEY_ID"],
                    "secret_key": lab.moto.environment["AWS_SECRET_ACCESS_KEY"],
                    "kms_key_id": lab.moto.key_id,
                    "timeout": 20,
                    "retries": 0,
                    "retention": RETENTION,
                },
            ],
            "state_directory": str(folder / "state"),
            "metrics_file": str(metrics),
        }
        return Nightly(config, metrics)

    return made


@pytest.fixture
def run(lab: Lab, make: Make, tmp_path: Path) -> Iterator[Nightly]:
    """A backup that has not run yet."""
    with FaultyS3(lab.moto.endpoint) as proxy:
        yield make(tmp_path, proxy)


def _later(minutes: int) -> Callable[[], datetime]:
    """Return a clock that is ahead: a name has the time in seconds, and two runs may take less than one."""
    return lambda: datetime.now(timezone.utc) + timedelta(minutes=minutes)


def _read(store: Store, name: str) -> bytes:
    with store.reader(name) as chunks:
        return b"".join(chunks)


def _assert_only_whole_ones(stores: list[Store], seen: set[tuple[str, Stored]]) -> list[int]:
    """Every listed snapshot is one, and the one of its manifest; gives the number of good ones in each store."""
    counts = []
    for store in stores:
        entries = store.listing()
        for entry in entries:
            if (store.label, entry) not in seen:
                data, reader = _read(store, entry.name), SnapshotReader()
                reader.feed(data)
                assert reader.finish().size == entry.size
                seen.add((store.label, entry))
                if entry.has_manifest:
                    manifest = store.read_manifest(entry.name)
                    assert manifest is not None
                    assert manifest["sha256"] == hashlib.sha256(data).hexdigest()
        counts.append(sum(entry.has_manifest for entry in entries))
    return counts


# ---- the good run


@pytest.mark.both
def test_every_destination_holds_the_same_proven_snapshot(lab: Lab, run: Nightly, small: VaultCluster) -> None:
    report = run.run(seal_key_id="none, it is Shamir's")
    assert (report.result, report.problem, report.warnings) == ("success", None, [])
    assert report.snapshot is not None
    name, folder, bucket = report.snapshot["name"], *run.stores
    assert run.names == [[name], [name]]
    assert [one["proof"] for one in report.destinations] == ["read back", "checksum"]
    assert _read(folder, name) == _read(bucket, name)
    assert verify_file(Path(folder.label, name)).sha256 == report.snapshot["sha256"]
    for store in (folder, bucket):
        assert store.read_manifest(name) == report.snapshot
    health = small.nodes[0].request("GET", "sys/health").json()
    assert report.snapshot["cluster_id"] == health["cluster_id"]
    assert (report.snapshot["seal_type"], report.snapshot["flagged"]) == ("shamir", None)
    stored = lab.moto.s3().head_object(Bucket=BUCKET, Key=f"{bucket.label.rpartition('/')[2]}/{name}")
    assert (stored["ServerSideEncryption"], stored["SSEKMSKeyId"]) == ("aws:kms", lab.moto.key_id)
    assert run.metric('last_run_result{result="success"}') == 1
    assert run.metric("size_bytes") == report.snapshot["size"] > TWO_PARTS
    assert run.metric(f'verified{{destination="{bucket.label}"}}') == 1
    assert run.metrics.stat().st_mode & 0o777 == 0o644
    assert small.client().lookup_token()["data"]["id"], "root's own token is not what was revoked"


def test_old_ones_go_when_the_new_one_is_proven(run: Nightly) -> None:
    taken = [run.run(_later(minutes)).snapshot for minutes in range(2)]
    old, new = (one["name"] for one in taken if one is not None)
    assert run.names == [[new], [new]]
    two = run.destinations(s3={"retention": {**RETENTION, "min_count": 2}})
    report = run.run(_later(2), destinations=two)
    assert [one["pruned"] for one in report.destinations] == [[new], []]
    assert old not in run.names[1]


def test_all_of_every_copy_is_read_back_now_and_then(run: Nightly) -> None:
    proofs = [run.run(read_back_every=2).destinations[1]["proof"] for _unused in range(3)]
    assert proofs == ["checksum", "read back", "checksum"]


# ---- a destination fails


@dataclass
class Failing:
    """A backup that has run well once, and S3 that then fails it in every way."""

    run: Nightly
    proxy: FaultyS3


@pytest.fixture(scope="module")
def failing(lab: Lab, make: Make, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Failing]:
    with FaultyS3(lab.moto.endpoint) as proxy:
        run = make(tmp_path_factory.mktemp("failing"), proxy)
        assert run.run().ok
        yield Failing(run, proxy)


@pytest.mark.parametrize(
    ("kind", "operation", "part"),
    [
        ("unavailable", "*", None),
        ("unavailable", "UploadPart", 2),
        ("slow_down", "CompleteMultipartUpload", None),
        ("hang", "UploadPart", 2),
        ("hang", "ListObjectsV2", None),
        ("cut", "UploadPart", 2),
        ("unavailable", "HeadObject", None),
        ("denied", "PutObject", None),
        ("corrupt", "UploadPart", 1),
    ],
)
def test_what_s3_does_fails_the_run_and_harms_nothing(
    failing: Failing, kind: str, operation: str, part: int | None
) -> None:
    run, proxy = failing.run, failing.proxy
    before = run.names
    proxy.fail(kind, operation, part)
    report = run.run(destinations=run.destinations(s3={"timeout": 4 if kind == "hang" else 20}))
    proxy.heal()
    assert (report.ok, report.result) == (False, "failed")
    folder, bucket = report.destinations
    assert (folder["verified"], bucket["verified"]) == (True, False)
    assert f"s3://{BUCKET}/" in (report.problem or "")
    assert bucket["problem"] in (report.problem or "")
    assert run.metric('last_run_result{result="failed"}') == 1
    # The new one is in the folder; nothing that was good went from either.
    assert [set(old) - set(new) for old, new in zip(before, run.names)] == [set(), set()]
    if kind != "corrupt":
        # S3 itself refuses such a part, moto does not: the copy that was not proven is there, without a manifest.
        _assert_only_whole_ones(run.stores, set())
    assert _rejected(run) == []


def test_after_all_that_s3_did_the_next_run_is_good(failing: Failing) -> None:
    report = failing.run.run()
    assert (report.result, report.problem) == ("success", None)
    assert [one["verified"] for one in report.destinations] == [True, True]
    assert _rejected(failing.run) == []


def _rejected(run: Nightly) -> list[dict[str, str]]:
    """What a fetch of the latest from the bucket passes over."""
    folder = Path(run.config["state_directory"]) / "fetched"
    folder.mkdir(exist_ok=True)
    return fetch(run.stores[1:], "latest", folder, 1, datetime.now(timezone.utc)).rejected


def test_an_optional_destination_that_is_down_is_told(run: Nightly) -> None:
    down = run.destinations(s3={"endpoint_url": "http://127.0.0.1:9", "required": False})
    report = run.run(destinations=down)
    assert (report.result, report.problem) == ("success", None)
    assert len(report.warnings) == 1
    assert "which is optional, failed" in report.warnings[0]
    assert "127.0.0.1:9" in report.warnings[0]
    required = run.run(destinations=run.destinations(s3={"endpoint_url": "http://127.0.0.1:9"}))
    assert (required.result, required.destinations[0]["verified"]) == ("failed", True)


def test_a_full_disk_does_not_keep_the_copy_from_the_bucket(run: Nightly, tiny: Path) -> None:
    report = run.run(destinations=run.destinations(filesystem={"path": str(tiny)}))
    assert report.result == "failed"
    assert f"[{tiny}] Cannot write {tiny}" in (report.problem or "")
    assert "No space left on device" in (report.problem or "")
    assert [one["verified"] for one in report.destinations] == [False, True]
    assert list(tiny.iterdir()) == []


def test_no_room_for_state_and_metrics_is_a_warning(run: Nightly, tiny: Path) -> None:
    (tiny / "fill").write_bytes(b"x" * 4 * 2**20)
    report = run.run(metrics_file=str(tiny / "x.prom"))
    assert report.result == "success"
    assert "Prometheus is not told of this run" in report.warnings[0]


# ---- Vault fails


def test_a_secret_that_has_expired(run: Nightly, small: VaultCluster) -> None:
    made = small.client().auth.approle.generate_secret_id("snapshot")["data"]
    small.client().auth.approle.destroy_secret_id("snapshot", made["secret_id"])
    vault = {**run.config["vault"], "secret_id": made["secret_id"]}
    report = run.run(vault=vault)
    assert report.result == "failed"
    assert "Login with auth_method approle (mount approle) was refused" in (report.problem or "")
    assert small.nodes[0].address in (report.problem or "")
    assert made["secret_id"] not in json.dumps(report.to_dict()) + run.metrics.read_text()
    assert run.names == [[], []]
    assert run.metric('last_run_result{result="failed"}') == 1


def test_the_leader_is_killed_during_the_download(
    run: Nightly, large: VaultCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, vault = large.nodes[0], _as_root(large)
    before = run.run(vault=vault).snapshot
    assert before is not None
    assert before["size"] > LARGE

    class Watched(SnapshotReader):
        def feed(self, data: bytes) -> None:
            node.kill()
            super().feed(data)

    with monkeypatch.context() as patch:
        patch.setattr(backup, "SnapshotReader", Watched)
        report = run.run(vault=vault)
    large.start()
    large.unseal_all()
    large.wait_ready_all()
    assert (report.result, report.snapshot) == ("failed", None)
    assert f"at {node.address}: the connection broke off" in (report.problem or "")
    assert run.names == [[before["name"]]] * 2
    assert not list(Path(run.stores[0].label).glob(".*"))
    assert run.run(vault=vault).result == "success"


# ---- the clock


def test_a_clock_that_goes_back_loses_nothing(run: Nightly) -> None:
    assert run.run().ok
    before = run.names
    report = run.run(now=lambda: datetime.now(timezone.utc) - timedelta(days=400))
    assert report.result == "success"
    assert "of the future" in report.warnings[0]
    assert report.snapshot is not None
    assert run.names == [[*names, report.snapshot["name"]] for names in before]


# ---- the modules


def test_the_modules(ansible: Ansible, run: Nightly, tmp_path: Path) -> None:
    stores = run.config["destinations"]
    settings = {name: run.config[name] for name in ("state_directory", "metrics_file")}
    dest = tmp_path / "fetched"
    dest.mkdir()
    backup_options = {"stores": stores, "min_interval": 600, **settings}
    ansible.secrets = [stores[1]["secret_key"]]
    *four, listed, checked, fetched, again = ansible.run(
        [
            *(task("vault_snapshot_backup", check=check, **backup_options) for check in (True, False, True, False)),
            task("vault_snapshot_store_info", stores=stores),
            task("vault_snapshot_fetch", check=True, stores=stores, dest=str(dest)),
            task("vault_snapshot_fetch", stores=stores, dest=str(dest)),
            task("vault_snapshot_fetch", stores=stores, dest=str(dest)),
        ],
        **run.config["vault"],
    )
    assert [result["changed"] for result in four] == [True, True, False, False]
    assert [result["result"] for result in four] == ["success", "success", "skipped", "skipped"]
    name = four[1]["snapshot"]["name"]
    assert listed["latest"]["name"] == name
    assert [(one["name"], one["verified"]) for one in listed["snapshots"]] == [(name, True)] * 2
    assert any("versioning" in sentence for sentence in listed["stores"][1]["lacks"])
    assert [checked["changed"], fetched["changed"], again["changed"]] == [True, True, False]
    path = Path(fetched["path"])
    assert (path, path.stat().st_mode & 0o777) == (dest / name, 0o600)
    assert verify_file(path).sha256 == fetched["sha256"] == four[1]["snapshot"]["sha256"]
    assert json.loads(Path(f"{path}.json").read_text()) == four[1]["snapshot"]


def test_the_newest_is_corrupted_in_the_store(lab: Lab, ansible: Ansible, run: Nightly, tmp_path: Path) -> None:
    keeps = {"destinations": run.destinations(s3={"retention": None})}
    old, new = run.run(**keeps).snapshot, run.run(_later(1), **keeps).snapshot
    assert old is not None
    assert new is not None
    folder, bucket = run.stores
    damaged = bytearray(_read(bucket, new["name"]))
    damaged[len(damaged) // 2] ^= 1
    key = f"{bucket.label.rpartition('/')[2]}/{new['name']}"
    lab.moto.s3().put_object(Bucket=BUCKET, Key=key, Body=bytes(damaged))
    stores = run.config["destinations"]
    one_store, both, by_name, before, nothing = ansible.run(
        [
            task("vault_snapshot_fetch", stores=stores[1:], dest=str(tmp_path / "1.snap")),
            task("vault_snapshot_fetch", stores=stores[::-1], dest=str(tmp_path / "2.snap")),
            task("vault_snapshot_fetch", stores=stores[1:], dest=str(tmp_path / "3.snap"), name=new["name"]),
            task("vault_snapshot_fetch", stores=stores[1:], dest=str(tmp_path / "4.snap"), name=old["taken_at"]),
            task("vault_snapshot_fetch", stores=stores[1:], dest=str(tmp_path / "5.snap"), name="2001-01-01T00:00:00Z"),
        ]
    )
    assert one_store["name"] == old["name"]
    assert [(one["name"], one["store"]) for one in one_store["rejected"]] == [(new["name"], bucket.label)]
    assert json.loads((tmp_path / "1.snap.json").read_text())["sha256"] == old["sha256"]
    assert (both["name"], both["store"]) == (new["name"], folder.label)
    assert by_name["error_type"] == "SnapshotError"
    assert not (tmp_path / "3.snap").exists()
    assert before["name"] == old["name"]
    assert before["rejected"] == []
    assert "there is none" in nothing["msg"]


# ---- killed


_RUNS = """
import json, os, signal, sys, time
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.job import run_job
import botocore.session, hvac, requests
config = json.load(open(sys.argv[1]))
for line in sys.stdin:
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os._exit(0 if run_job(config, {}).ok else 1)
    if float(line) > 0:
        time.sleep(float(line))
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    print(status, time.monotonic() - began, flush=True)
"""
"""Forks a run for each line, which says after how many seconds it is killed; all that takes long is imported before."""


def test_killed_at_any_moment_the_next_run_is_clean(run: Nightly, small: VaultCluster, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    keeping = {"retention": {"max_age_days": 0, "min_count": KEPT}}
    destinations = run.destinations(filesystem=keeping, s3=keeping)
    write_private(config, json.dumps({**run.config, "vault": _as_root(small), "destinations": destinations}).encode())
    dice = random.Random(20261124)  # noqa: S311
    seen: set[tuple[str, Stored]] = set()
    most, killed = [0, 0], 0
    with subprocess.Popen(
        [sys.executable, "-c", _RUNS, str(config)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as runs:
        assert runs.stdin is not None
        assert runs.stdout is not None

        def one(seconds: float) -> tuple[int, float]:
            runs.stdin.write(f"{seconds}\n")  # type: ignore[union-attr]
            runs.stdin.flush()  # type: ignore[union-attr]
            status, took = runs.stdout.readline().split()  # type: ignore[union-attr]
            return int(status), float(took)

        status, whole = one(0)
        assert status == 0
        for number in range(KILLS):
            status, took = one(0 if number % 10 == 9 else dice.uniform(0.01, whole))
            killed += status == 9
            if status == 0:
                # The first may have been slow, and then most would end before they are killed.
                whole = min(whole, took)
            assert status in (0, 9)
            good = _assert_only_whole_ones(run.stores, seen)
            assert all(now >= min(before, KEPT) for now, before in zip(good, most))
            most = [max(pair) for pair in zip(good, most)]
        runs.stdin.close()
    assert killed > KILLS // 2
    report = run.run(vault=_as_root(small))
    assert report.result == "success"
    assert not list(Path(run.stores[0].label).glob(".*"))
    assert _rejected(run) == []


# ---- rebuilt


def test_a_vault_that_was_initialised_anew_is_flagged(run: Nightly, small: VaultCluster, tmp_path: Path) -> None:
    good = run.run(vault=_as_root(small)).snapshot
    assert good is not None
    small.wipe_and_start()
    small.initialize(wait_voters=False)
    before = run.names
    report = run.run(vault=_as_root(small))
    assert (report.ok, report.result) == (False, "flagged")
    assert "its Raft index went back" in (report.problem or "")
    assert "of another cluster" in (report.problem or "")
    assert report.snapshot is not None
    for names, old in zip(run.names, before):
        assert set(names) == {*old, report.snapshot["name"]}
    fetched = fetch(run.stores, "latest", tmp_path, 1, datetime.now(timezone.utc))
    assert fetched.copy.entry.name == good["name"]
    assert [one["name"] for one in fetched.rejected] == [report.snapshot["name"]] * 2
    by_name = fetch(run.stores, report.snapshot["name"], tmp_path, 1, datetime.now(timezone.utc))
    assert "is flagged" in by_name.warnings[0]
    accepted = run.run(vault=_as_root(small), accept_flagged=True)
    assert accepted.result == "success"
    assert run.run(vault=_as_root(small)).warnings == []
