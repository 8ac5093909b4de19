# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only a complete and verified snapshot ever gets its name."""

from __future__ import annotations

import errno
import gzip
import os
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot import download as downloads
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.archive import verify_file
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.download import (
    SNAPSHOT_API,
    Taken,
    file_name,
    find_young,
    take,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.errors import SnapshotCorruptError
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.manifest import (
    Origin,
    manifest_path,
    read_manifest,
    write_manifest,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import (
    VaultPermissionError,
    VaultUnreachableError,
)
from lab import archives
from unit.vault.fake import OTHER, URL, FakeVault, Stream, errors, node, redact, reset, silent

GOOD = archives.archive()
NOW = datetime(2026, 11, 24, 5, 30, tzinfo=timezone.utc)


def pieces(data: bytes = GOOD, size: int = 1000) -> list[bytes | BaseException]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.fixture
def cluster(vault: FakeVault) -> FakeVault:
    node(vault, URL, 429, leader=OTHER)
    node(vault, OTHER, 200)
    vault.on("GET", "sys/storage/raft/autopilot/state", errors(), 404)
    return vault


@pytest.fixture
def dest(tmp_path: Path) -> Iterator[Path]:
    """A folder with a snapshot of yesterday, which must not get lost."""
    folder = tmp_path / "backups"
    folder.mkdir()
    yield folder
    assert not [path for path in folder.iterdir() if "partial" in path.name]


def download(vault: FakeVault, dest: Path, *body: Any) -> Taken:
    vault.on("GET", SNAPSHOT_API, Stream(body or pieces()), at=OTHER)
    return take(vault.client(token="hvs.t"), dest, 600.0, now=lambda: NOW, monotonic=iter([10.0, 12.5]).__next__)


class TestTaken:
    def test_from_the_leader_with_its_manifest(self, cluster: FakeVault, dest: Path) -> None:
        taken = download(cluster, dest)
        assert taken.path == dest / "prod-20261124T053000Z.snap"
        assert taken.path.read_bytes() == GOOD
        assert taken.path.stat().st_mode & 0o777 == 0o600
        assert (taken.info.index, taken.duration, taken.kept, taken.taken_at) == (4711, 2.5, False, NOW)
        assert taken.manifest == read_manifest(taken.path)
        assert taken.manifest["node"] == OTHER
        assert taken.manifest["seal_type"] == "shamir"
        (seen,) = cluster.sent("GET", SNAPSHOT_API)
        assert (seen.node, seen.options["timeout"][1]) == (OTHER, 600.0)

    def test_through_a_proxy_that_compresses(self, cluster: FakeVault, dest: Path) -> None:
        body = Stream(pieces(gzip.compress(GOOD)))
        cluster.on("GET", SNAPSHOT_API, body, at=OTHER, headers={"Content-Encoding": "gzip"})
        assert take(cluster.client(token="hvs.t"), dest, 600.0, now=lambda: NOW).path.read_bytes() == GOOD

    def test_of_an_older_vault_whose_seal_is_not_told(self, cluster: FakeVault, dest: Path) -> None:
        node(cluster, OTHER, 200, recovery_seal=True)
        assert download(cluster, dest).manifest["seal_type"] is None

    def test_of_a_version_that_the_listener_redacts(self, cluster: FakeVault, dest: Path) -> None:
        servers = {"vault-2": {"id": "vault-2", "version": "1.21.0"}, "vault-1": {"id": "vault-1", "version": "1.20.0"}}
        state = {"data": {"healthy": True, "leader": "vault-2", "servers": servers}}
        cluster.clear("GET", "sys/storage/raft/autopilot/state").on("GET", "sys/storage/raft/autopilot/state", state)
        redact(cluster, URL, OTHER)
        redact(cluster, OTHER, None)
        manifest = download(cluster, dest).manifest
        assert (manifest["vault_version"], manifest["cluster_name"]) == ("1.21.0", None)

    def test_to_a_file_of_ones_own_choice(self, cluster: FakeVault, dest: Path) -> None:
        assert download(cluster, dest / "x.snap").path == dest / "x.snap"
        assert verify_file(dest / "x.snap").index == 4711

    def test_not_in_the_folder_before_it_is_verified(self, cluster: FakeVault, dest: Path) -> None:
        there: list[list[str]] = []

        class Watched(Stream):
            def read(self, _size: int = -1) -> bytes:
                there.append([path.name for path in dest.iterdir() if not path.name.startswith(".")])
                return super().read()

        cluster.on("GET", SNAPSHOT_API, Watched(pieces()), at=OTHER)
        take(cluster.client(token="hvs.t"), dest, 1.0)
        assert len(there) > 2
        assert not any(there)

    @pytest.mark.parametrize(
        ("cluster_name", "expected"),
        [
            ("prod", "prod"),
            (None, "vault"),
            ("", "vault"),
            ("../etc/a b", "---etc-a-b"),
            ("vault-cluster_1", "vault-cluster_1"),
        ],
    )
    def test_name_in_a_folder(self, cluster_name: str | None, expected: str) -> None:
        assert file_name(Origin(cluster_name), NOW) == f"{expected}-20261124T053000Z.snap"


BROKEN: dict[str, tuple[list[Any], type[Exception], str]] = {
    "cut short with a 200": (pieces(GOOD[:-500]), SnapshotCorruptError, "did not arrive whole"),
    "empty": ([b""], SnapshotCorruptError, "did not arrive whole"),
    "one byte too many": ([GOOD, b"x"], SnapshotCorruptError, "did not arrive whole"),
    "a page": ([b"<html>"], SnapshotCorruptError, "did not arrive whole"),
    "broken off": ([GOOD[:2000], reset()], VaultUnreachableError, "broke off"),
    "gone silent": ([GOOD[:2000], silent()], VaultUnreachableError, "no answer for 600 s"),
}


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(("body", "kind", "said"), list(BROKEN.values()), ids=list(BROKEN))
def test_what_does_not_arrive_whole_leaves_nothing(
    cluster: FakeVault, dest: Path, body: list[Any], kind: type[Exception], said: str, there: bool
) -> None:
    path = dest / "x.snap"
    if there:
        path.write_bytes(b"yesterday")
        manifest_path(path).write_text("{}")
    with pytest.raises(kind, match=said) as caught:
        download(cluster, path, *body)
    assert OTHER in str(caught.value)
    left = {file.name: file.read_bytes() for file in dest.iterdir()}
    assert left == ({"x.snap": b"yesterday", "x.snap.json": b"{}"} if there else {})


@pytest.mark.parametrize("there", [{}, {"x.snap": b"yesterday", "x.snap.json": b"{}"}])
def test_a_full_disk_leaves_what_was_there(
    cluster: FakeVault, dest: Path, monkeypatch: pytest.MonkeyPatch, there: dict[str, bytes]
) -> None:
    for name, data in there.items():
        (dest / name).write_bytes(data)

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        download(cluster, dest / "x.snap")
    assert {file.name: file.read_bytes() for file in dest.iterdir()} == there


def test_a_run_that_is_killed_leaves_no_manifest_of_another_snapshot(
    cluster: FakeVault, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = dest / "x.snap"
    path.write_bytes(b"yesterday")
    manifest_path(path).write_text("{}")

    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(downloads, "write_manifest", killed)
    with pytest.raises(KeyboardInterrupt):
        download(cluster, path)
    assert verify_file(path).index == 4711
    assert read_manifest(path) is None


def test_a_manifest_that_cannot_be_written_is_told_apart(cluster: FakeVault, dest: Path) -> None:
    manifest_path(dest / "x.snap").mkdir()
    with pytest.raises(StoreError, match="is there and verified, but its manifest is not"):
        download(cluster, dest / "x.snap")
    assert verify_file(dest / "x.snap").index == 4711


def test_a_refusal_writes_nothing(cluster: FakeVault, dest: Path) -> None:
    cluster.on("GET", SNAPSHOT_API, errors("permission denied"), 403, at=OTHER)
    with pytest.raises(VaultPermissionError):
        take(cluster.client(token="hvs.t"), dest, 1.0)
    assert list(dest.iterdir()) == []


class TestYoung:
    def put(self, dest: Path, age: int, data: bytes = GOOD) -> Path:
        path = dest / f"prod-{NOW - timedelta(seconds=age):%Y%m%dT%H%M%SZ}.snap"
        path.write_bytes(data)
        return path

    def find(self, dest: Path) -> Taken | None:
        return find_young(dest, timedelta(seconds=3600), NOW)

    @pytest.mark.parametrize(("age", "kept"), [(0, True), (3600, True), (3601, False)])
    def test_by_its_age(self, dest: Path, age: int, kept: bool) -> None:
        path = self.put(dest, age)
        for where in (dest, path):
            found = self.find(where)
            assert (found is not None) is kept
            if found is not None:
                assert (found.path, found.kept, found.manifest, found.info.index) == (path, True, {}, 4711)

    def test_with_its_manifest(self, dest: Path) -> None:
        path = self.put(dest, 0)
        manifest = write_manifest(path, verify_file(path), Origin("prod"), NOW)
        found = self.find(dest)
        assert found is not None
        assert found.manifest == manifest

    def test_one_that_does_not_verify_is_none(self, dest: Path) -> None:
        self.put(dest, 60)
        self.put(dest, 0, GOOD[:-1])
        assert self.find(dest) is None

    @pytest.mark.parametrize("manifest", ['{"sha256": "of another one"}', "{"])
    def test_nor_one_whose_manifest_does_not_vouch_for_it(self, dest: Path, manifest: str) -> None:
        manifest_path(self.put(dest, 0)).write_text(manifest)
        assert self.find(dest) is None

    def test_nothing_there(self, dest: Path) -> None:
        assert self.find(dest) is None
        assert self.find(dest / "none") is None
