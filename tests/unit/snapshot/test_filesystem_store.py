# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder that keeps snapshots."""

from __future__ import annotations

import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores import filesystem, open_store
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores.base import Stored

OLD, NEW = "vault-20261123T053000Z.snap", "vault-20261124T053000Z.snap"
DAY = timedelta(days=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


@pytest.fixture
def store(folder: Path) -> filesystem.FilesystemStore:
    return filesystem.FilesystemStore(str(folder))


def put(store: filesystem.FilesystemStore, name: str, data: bytes = b"snapshot") -> None:
    with store.writer(name) as writer:
        writer.write(data[:3])
        writer.write(data[3:])


def test_what_was_written_is_there_and_for_its_owner_alone(store: filesystem.FilesystemStore, folder: Path) -> None:
    put(store, NEW)
    store.write_manifest(NEW, {"index": 7})

    with store.reader(NEW) as chunks:
        assert b"".join(chunks) == b"snapshot"
    assert store.read_manifest(NEW) == {"index": 7}
    assert store.checksum_matches(NEW, "0" * 64) is None
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_the_listing_is_newest_first_and_tells_what_was_proven(store: filesystem.FilesystemStore) -> None:
    put(store, OLD)
    store.write_manifest(OLD, {})
    put(store, NEW)

    assert store.listing() == [
        Stored(NEW, datetime(2026, 11, 24, 5, 30, tzinfo=timezone.utc), 8, has_manifest=False),
        Stored(OLD, datetime(2026, 11, 23, 5, 30, tzinfo=timezone.utc), 8, has_manifest=True),
    ]


def test_what_is_no_snapshot_is_not_listed(store: filesystem.FilesystemStore, folder: Path) -> None:
    put(store, NEW)
    (folder / ".hidden.snap").touch()
    (folder / "notes.txt").touch()
    (folder / "folder.snap").mkdir()
    (folder / "latest.snap").symlink_to(NEW)

    assert [stored.name for stored in store.listing()] == [NEW]


def test_a_folder_that_nothing_was_written_to_is_empty(store: filesystem.FilesystemStore, folder: Path) -> None:
    assert store.listing() == []
    assert store.lacks() == []
    assert store.clean(DAY) == []
    assert not folder.exists()


def test_a_folder_is_not_made_where_nothing_is_mounted(tmp_path: Path) -> None:
    store = filesystem.FilesystemStore(str(tmp_path / "mount" / "snapshots"))

    with pytest.raises(StoreError, match="mount does not exist"):
        put(store, NEW)
    with pytest.raises(StoreError, match="mount does not exist"):
        store.listing()
    assert list(tmp_path.iterdir()) == []


def test_what_fails_on_the_way_leaves_nothing(store: filesystem.FilesystemStore, folder: Path) -> None:
    def fail() -> None:
        with store.writer(NEW) as writer:
            writer.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert list(folder.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error_of_this_store_at_the_write(store: filesystem.FilesystemStore) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        writer = filesystem._FileWriter(full, Path("/backup/x.snap"))
        with pytest.raises(StoreError, match=r"Cannot write /backup/x\.snap: No space left on device"):
            writer.write(b"data")


def test_no_snapshot_is_overwritten(store: filesystem.FilesystemStore) -> None:
    put(store, NEW, b"the good one")

    with pytest.raises(StoreError, match="exists already and is not overwritten"):
        put(store, NEW, b"the second")
    with store.reader(NEW) as chunks:
        assert b"".join(chunks) == b"the good one"


def test_a_killed_run_is_cleaned_up_but_not_a_running_one(store: filesystem.FilesystemStore, folder: Path) -> None:
    put(store, OLD)
    left = folder / f".{OLD}.abcd.partial"
    left.write_bytes(b"half")

    with store.writer(NEW) as writer:
        writer.write(b"half of another")
        assert store.clean(timedelta(0)) == [f"unfinished file {left}"]
        writer.write(b" and the rest")

    assert sorted(file.name for file in folder.iterdir()) == [OLD, NEW]


def test_a_deleted_snapshot_takes_its_manifest_along(
    store: filesystem.FilesystemStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, NEW)
    store.write_manifest(NEW, {})
    gone: list[str] = []
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path, **options: (gone.append(path.name), unlink(path, **options)))

    store.delete(NEW)
    store.delete(NEW)

    assert gone[:2] == [f"{NEW}.json", NEW]
    assert list(folder.iterdir()) == []


def test_what_is_not_there_is_said(store: filesystem.FilesystemStore) -> None:
    put(store, OLD)

    assert store.read_manifest(NEW) is None
    with pytest.raises(StoreError, match=f"There is no .*{NEW}"), store.reader(NEW):
        pass


@pytest.mark.parametrize("name", ["../vault.snap", ".vault.snap", "vault.txt", "a/b.snap", "a\nb.snap", ""])
def test_a_name_stays_in_its_place(store: filesystem.FilesystemStore, name: str) -> None:
    with pytest.raises(StoreError, match="is no name of a snapshot"):
        put(store, name)
    with pytest.raises(StoreError, match="is no name of a snapshot"):
        store.delete(name)


def test_a_folder_says_what_it_lacks(
    store: filesystem.FilesystemStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, NEW)
    assert store.lacks() == []

    folder.chmod(0o755)
    monkeypatch.setattr(filesystem.shutil, "disk_usage", lambda _path: type("Usage", (), {"free": 15}))

    mode, free = store.lacks()
    assert "mode 0755" in mode
    assert "15 bytes free" in free


def test_a_filesystem_destination_is_opened_by_its_options() -> None:
    store = open_store({"type": "filesystem", "path": "/var/backups/vault", "required": False, "retention": {}})

    assert store.label == "/var/backups/vault"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "/backup"}, "type is filesystem"),
        ({"type": "ftp", "path": "/backup"}, "not 'ftp'"),
        ({"type": "filesystem"}, "needs path"),
        ({"type": "filesystem", "path": ""}, "needs path"),
        ({"type": "filesystem", "path": "/backup", "pth": 1, "bucket": "x"}, "no option bucket, pth"),
        ({"type": "filesystem", "path": "backup"}, "no absolute path"),
        ({"type": "filesystem", "path": 5}, "path of a filesystem destination is a str, not a int"),
    ],
)
def test_options_that_cannot_be_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        open_store(options)
