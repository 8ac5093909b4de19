# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can happen to a snapshot on its way out of, and into, a real cluster, and where it lies."""

from __future__ import annotations

import gzip
import random
import resource
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot import archive, download, manifest, restore
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.errors import (
    SnapshotCorruptError,
    SnapshotError,
    SnapshotMismatchError,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.client import Connection, VaultClient
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import VaultUnreachableError
from integration.run_ansible import Ansible, task
from lab import Lab
from lab.processes import wait_for
from lab.seed import Seed, fill
from lab.vault import VaultCluster, VaultNode

LARGE = 32 * 2**20
"""Bytes that a snapshot of the large cluster has at least: far more than sockets buffer."""


@pytest.fixture(scope="module")
def large(lab: Lab) -> VaultCluster:
    """Three nodes of this file's own, whose leaders get killed."""
    cluster = lab.cluster("large")
    cluster.initialize(wait_voters=False)
    cluster.client().sys.enable_secrets_engine("kv", path="kv1", options={"version": "1"})
    fill(cluster, 40)
    cluster.wait_voters()
    return cluster


@pytest.fixture
def whole(large: VaultCluster) -> Iterator[VaultCluster]:
    """The large cluster with all its nodes up, before and after."""
    yield large
    for node in large.nodes:
        node.resume()
    large.start()
    large.wait_ready_all()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "snapshots"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def real(cluster: VaultCluster, seeded: Seed, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a snapshot of the shared cluster."""
    path = tmp_path_factory.mktemp("real") / "real.snap"
    return download.take(_client(cluster, cluster.leader()), path, 60).path.read_bytes()


def _client(cluster: VaultCluster, node: VaultNode, **options: Any) -> VaultClient:
    return VaultClient(Connection(node.address, ca_cert=str(cluster.ca_file), **options), cluster.root_token)


def _standby(cluster: VaultCluster) -> VaultNode:
    leader = cluster.leader()
    return next(node for node in cluster.nodes if node is not leader)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _read(data: bytes) -> archive.SnapshotInfo | None:
    """What the snapshot says, None when it is refused."""
    reader = archive.SnapshotReader()
    try:
        reader.feed(data)
        return reader.finish()
    except SnapshotCorruptError:
        return None


def _accepted(data: bytes) -> bool:
    return _read(data) is not None


# ---- damage to a real file


def test_no_damaged_byte_is_accepted(real: bytes) -> None:
    intact, inside = _read(real), gzip.decompress(real)
    assert intact is not None
    dice = random.Random(20261124)  # noqa: S311
    for _unused in range(2000):
        # The header's time, flags and system mean nothing to the content.
        position = dice.randrange(10, len(real))
        damaged = bytearray(real)
        damaged[position] ^= 0xFF
        info = _read(bytes(damaged))
        if info is not None:
            # Rarely (1 byte of 20,000) this is but another way to say the same: zeros copied from other zeros. All that
            # Vault would read is intact then, and the manifest, which is of the file, still tells.
            assert gzip.decompress(bytes(damaged)) == inside, position
            with pytest.raises(SnapshotMismatchError):
                manifest.check_manifest(Path("x.snap"), info, {"sha256": intact.sha256})


def test_no_cut_is_accepted(real: bytes) -> None:
    dice = random.Random(1124)  # noqa: S311
    lengths = [0, 1, 2, 9, 10, 11, len(real) - 8, len(real) - 1, *(dice.randrange(len(real)) for _unused in range(200))]
    assert [length for length in lengths if _accepted(real[:length])] == []


def test_no_end_at_a_member_is_accepted(real: bytes) -> None:
    inside = gzip.decompress(real)
    assert _accepted(gzip.compress(inside))
    with tarfile.open(fileobj=BytesIO(inside)) as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == list(archive.ORDER)
    ends = [member.offset for member in members]
    ends += [member.offset_data for member in members]
    ends += [member.offset_data + member.size for member in members]
    ends += [-(-(member.offset_data + member.size) // 512) * 512 for member in members]
    closing = bytes(1024)
    cuts = [inside[:end] + tail for end in sorted(set(ends)) for tail in (b"", closing[:512], closing)]
    # The last of the ends, closed, is what a whole snapshot is.
    assert [len(cut) for cut in cuts if _accepted(gzip.compress(cut))] == [ends[-1] + 1024]


def test_a_damaged_file_is_passed_over_for_an_older_one(ansible: Ansible, real: bytes, folder: Path) -> None:
    empty = folder / "empty"
    empty.mkdir()
    good, cut, flipped = (folder / f"prod-2026112{day}T020000Z.snap" for day in (1, 2, 3))
    good.write_bytes(real)
    cut.write_bytes(real[:-100])
    flipped.write_bytes(real[:500] + bytes([real[500] ^ 1]) + real[501:])
    chosen, too_few, none, told, intact, missing = ansible.run(
        [
            task("vault_raft_snapshot_find", path=str(folder)),
            task("vault_raft_snapshot_find", path=str(folder), candidates=2),
            task("vault_raft_snapshot_find", path=str(empty)),
            task("vault_raft_snapshot_info", path=str(cut)),
            task("vault_raft_snapshot_info", path=str(good)),
            task("vault_raft_snapshot_info", path=str(folder / "missing.snap")),
        ]
    )
    assert (chosen["path"], chosen["verified"]) == (str(good), True)
    assert [one["path"] for one in chosen["rejected"]] == [str(flipped), str(cut)]
    assert chosen["taken_at"] == "2026-11-21T02:00:00+00:00"
    assert [too_few["error_type"], none["error_type"]] == [SnapshotError.__name__] * 2
    assert "1 older ones were not tried" in too_few["msg"]
    assert str(empty) in none["msg"]
    assert (told["verified"], told["changed"]) == (False, False)
    assert "cut short" in told["problem"]
    assert (intact["verified"], intact["size"]) == (True, len(real))
    assert missing["error_type"] == StoreError.__name__


# ---- the leader goes while it sends


def _at_the_first_piece(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do this as soon as the first piece of a snapshot has arrived (and at each piece that was on its way by then)."""

    class Watched(archive.SnapshotReader):
        def feed(self, data: bytes) -> None:
            act()
            super().feed(data)

    monkeypatch.setattr(download, "SnapshotReader", Watched)


def _successor(cluster: VaultCluster, standby: VaultNode) -> VaultNode:
    """Wait until a node is active and the standby knows which one, and return it."""
    successor = cluster.wait_active()

    def known() -> bool:
        return bool(standby.request("GET", "sys/leader").json().get("leader_address") == successor.address)

    wait_for(f"{standby.name} knows its leader", known)
    return successor


def test_the_leader_is_killed_during_a_snapshot(
    whole: VaultCluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader, standby, dest = whole.leader(), _standby(whole), folder / "x.snap"
    dest.write_bytes(b"what was there before")
    with monkeypatch.context() as patch:
        _at_the_first_piece(patch, leader.kill)
        with pytest.raises(VaultUnreachableError) as caught:
            download.take(_client(whole, standby), dest, 60)
    assert f"at {leader.address}: the connection broke off" in str(caught.value)
    assert _names(folder) == ["x.snap"]
    assert dest.read_bytes() == b"what was there before"
    successor = _successor(whole, standby)
    assert successor is not leader
    taken = download.take(_client(whole, standby), dest, 60)
    assert taken.manifest["node"] == successor.address
    assert archive.verify_file(dest).size > LARGE
    assert _names(folder) == ["x.snap", "x.snap.json"]


def test_the_leader_freezes_during_a_snapshot(
    ansible: Ansible, whole: VaultCluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader, standby, dest = whole.leader(), _standby(whole), folder / "x.snap"
    with monkeypatch.context() as patch:
        _at_the_first_piece(patch, leader.pause)
        with pytest.raises(VaultUnreachableError) as caught:
            download.take(_client(whole, standby), dest, first_byte_timeout=10)
    assert f"at {leader.address}: connected, then no answer for 10 s" in str(caught.value)
    options: dict[str, Any] = {"ca_cert": str(whole.ca_file), "token": whole.root_token, "dest": str(dest)}
    (frozen,) = ansible.run([task("vault_raft_snapshot", url=leader.address, connect_timeout=1, **options)])
    assert frozen["error_type"] == "VaultUnreachableError"
    assert f"at {leader.address}: connected, then no TLS handshake within 1 s" in frozen["msg"]
    assert _names(folder) == []
    leader.kill()
    _successor(whole, standby)
    (taken,) = ansible.run([task("vault_raft_snapshot", url=standby.address, **options)])
    assert taken["size"] == archive.verify_file(dest).size > LARGE


# ---- the leader goes while it restores


def _after_the_post(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    original = VaultClient.upload

    def upload(self: VaultClient, path: str, body: Any, timeout: float) -> None:
        original(self, path, body, timeout)
        act()

    monkeypatch.setattr(VaultClient, "upload", upload)


@pytest.fixture
def stored(whole: VaultCluster, folder: Path) -> Path:
    return download.take(_client(whole, whole.leader()), folder / "stored.snap", 60).path


def test_a_leader_killed_after_the_post_is_no_success(
    whole: VaultCluster, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = whole.leader()
    _after_the_post(monkeypatch, leader.kill)
    with pytest.raises(VaultUnreachableError) as caught:
        restore.restore(_client(whole, leader), stored, False, 60, reload_timeout=1)
    assert f"{leader.address} took the snapshot but has not reloaded after 1 s" in str(caught.value)
    assert "Do not restore again before you know" in str(caught.value)


def test_a_leader_that_comes_back_as_a_standby_is_no_success(
    whole: VaultCluster, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = whole.leader()
    successors: list[VaultNode] = []

    def lose_the_lead() -> None:
        leader.kill()
        successors.append(whole.wait_active())
        leader.start()

    _after_the_post(monkeypatch, lose_the_lead)
    with pytest.raises(VaultUnreachableError) as caught:
        restore.restore(_client(whole, leader), stored, False, 60, reload_timeout=60)
    assert f"The leadership went from {leader.address} to {successors[0].address}" in str(caught.value)
    assert "whether the new leader has it is not known" in str(caught.value)


def test_a_leader_killed_while_it_receives_is_no_success(
    whole: VaultCluster, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = whole.leader()
    original = VaultClient.upload

    def upload(self: VaultClient, path: str, body: Any, timeout: float) -> None:
        def cut_off() -> Iterator[bytes]:
            yield body.read(2**20)
            leader.kill()
            while piece := body.read(2**20):
                yield piece

        original(self, path, cut_off(), timeout)

    monkeypatch.setattr(VaultClient, "upload", upload)
    with pytest.raises(VaultUnreachableError) as caught:
        restore.restore(_client(whole, leader), stored, False, 60, 60)
    assert f"at {leader.address}" in str(caught.value)
    assert "Whether the snapshot was taken over is not known" in str(caught.value)
    assert whole.wait_active() is not leader


# ---- no room where it is to lie


def test_a_full_disk(ansible: Ansible, whole: VaultCluster, real: bytes, tiny: Path, folder: Path) -> None:
    old = tiny / "old.snap"
    old.write_bytes(real)
    replaced, new, elsewhere = ansible.run(
        [
            task("vault_raft_snapshot", dest=str(old)),
            task("vault_raft_snapshot", dest=str(tiny)),
            task("vault_raft_snapshot", dest=str(folder)),
        ],
        url=_standby(whole).address,
        ca_cert=str(whole.ca_file),
        token=whole.root_token,
    )
    for result in (replaced, new):
        assert result["error_type"] == "StoreError"
        assert "No space left on device" in result["msg"]
        assert str(tiny) in result["msg"]
        assert "Make room or choose another folder" in result["msg"]
    assert _names(tiny) == ["old.snap"]
    assert old.read_bytes() == real
    assert archive.verify_file(elsewhere["path"]).size > LARGE


def test_a_limit_on_the_size_of_files(whole: VaultCluster, folder: Path) -> None:
    dest = folder / "x.snap"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * 2**20, hard))
    try:
        with pytest.raises(StoreError, match="File too large"):
            download.take(_client(whole, whole.leader()), dest, 60)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert _names(folder) == []
    assert archive.verify_file(download.take(_client(whole, whole.leader()), dest, 60).path).size > LARGE
