# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is chosen from stores, in which order, and what is never offered."""

from __future__ import annotations

import errno
import hashlib
import json
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot import fetch as fetches
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.catalogue import overview
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.errors import SnapshotError
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.fetch import Fetched, fetch
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores.filesystem import FilesystemStore
from lab import archives
from unit.snapshot.world import NOW, MemoryStore

DAY = timedelta(days=1)
STATE = b"".join(archives.encode_entry(*entry) for entry in archives.SMALL)


def snapshot(index: int) -> bytes:
    return archives.archive(archives.members(STATE, archives.meta_json(len(STATE), Index=index)))


def add(store: MemoryStore, when: datetime, index: int = 1, **manifest: Any) -> str:
    data = snapshot(index)
    return store.add(when, data, **{"index": index, "sha256": hashlib.sha256(data).hexdigest(), **manifest})


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("a")


def get(dest: Path, *stores: MemoryStore, name: str = "latest", candidates: int = 3, check: bool = False) -> Fetched:
    return fetch(stores, name, dest, candidates, NOW, check)


class TestTheLatest:
    def test_is_written_with_its_manifest(self, store: MemoryStore, tmp_path: Path) -> None:
        add(store, NOW - 2 * DAY, 1)
        name = add(store, NOW - DAY, 2)
        fetched = get(tmp_path, store)
        path = tmp_path / name
        assert (fetched.path, fetched.changed, fetched.rejected, fetched.warnings) == (path, True, [], [])
        assert path.read_bytes() == snapshot(2)
        assert path.stat().st_mode & 0o777 == 0o600
        assert json.loads((tmp_path / f"{name}.json").read_text()) == store.manifests[name]
        assert sorted(one.name for one in tmp_path.iterdir()) == [name, f"{name}.json"]

    def test_is_kept_when_it_is_there(self, store: MemoryStore, tmp_path: Path) -> None:
        add(store, NOW)
        path = tmp_path / "x.snap"
        assert get(path, store, check=True).changed is True
        assert not path.exists()
        assert [get(path, store, check=check).changed for check in (False, True, False)] == [True, False, False]
        path.write_bytes(b"damaged")
        assert get(path, store).changed is True
        Path(f"{path}.json").unlink()
        assert [get(path, store).changed, get(path, store).changed] == [True, False]

    @pytest.mark.parametrize("damage", ["cut", "replaced", "gone", "manifest"])
    def test_falls_back_to_the_one_before(self, store: MemoryStore, tmp_path: Path, damage: str) -> None:
        old, new = add(store, NOW - DAY, 1), add(store, NOW, 2)
        if damage == "cut":
            store.data[new] = store.data[new][:-1]
        elif damage == "replaced":
            store.data[new] = snapshot(3)
        elif damage == "manifest":
            store.manifests[new]["sha256"] = None
        else:
            _unreadable(store, new)
        fetched = get(tmp_path / "x.snap", store)
        assert fetched.copy.entry.name == old
        assert [(one["name"], one["store"]) for one in fetched.rejected] == [(new, "a")]
        assert fetched.rejected[0]["problem"]
        assert (tmp_path / "x.snap").read_bytes() == snapshot(1)

    @pytest.mark.parametrize("odd", ["long name", "deep", "version", "seal"])
    def test_falls_back_past_an_object_that_no_backup_has_written(self, tmp_path: Path, odd: str) -> None:
        folder, dest = tmp_path / "store", tmp_path / "dest"
        folder.mkdir()
        dest.mkdir()
        data = snapshot(1)
        sha256 = hashlib.sha256(data).hexdigest()
        manifests = {
            "long name": json.dumps({"sha256": sha256}),
            "deep": '{"a": ' + "[" * 10**5,
            "version": json.dumps({"sha256": sha256, "vault_version": 5}),
            "seal": json.dumps({"sha256": sha256, "seal_type": ["awskms"]}),
        }
        new = f"{'x' * (226 if odd == 'long name' else 1)}-{NOW:%Y%m%dT%H%M%SZ}.snap"
        old = f"x-{NOW - DAY:%Y%m%dT%H%M%SZ}.snap"
        for name, manifest in ((old, manifests["long name"]), (new, manifests[odd])):
            (folder / name).write_bytes(data)
            (folder / f"{name}.json").write_text(manifest)
        fetched = fetch([FilesystemStore(str(folder))], "latest", dest, 3, NOW)
        assert fetched.copy.entry.name == old
        ((problem, name),) = ((one["problem"], one["name"]) for one in fetched.rejected)
        assert name == new
        assert "too long for the name of a snapshot" in problem if odd == "long name" else "is damaged" in problem

    def test_falls_back_to_the_next_stores_copy_first(self, store: MemoryStore, tmp_path: Path) -> None:
        other = MemoryStore("b")
        for one in (store, other):
            add(one, NOW - DAY, 1)
            new = add(one, NOW, 2)
        store.data[new] = b""
        fetched = get(tmp_path, store, other)
        assert (fetched.copy.entry.name, fetched.copy.store.label) == (new, "b")
        assert [one["store"] for one in fetched.rejected] == ["a"]

    def test_is_never_a_flagged_or_unproven_one(self, store: MemoryStore, tmp_path: Path) -> None:
        good = add(store, NOW - 9 * DAY)
        for day in range(1, 9):
            add(store, NOW - day * DAY, flagged="it is empty")
        add(store, NOW, none=True)
        fetched = get(tmp_path, store, candidates=1)
        assert fetched.copy.entry.name == good
        assert [one["problem"] for one in fetched.rejected] == ["it is flagged: it is empty"] * 8

    def test_no_more_are_tried_than_said(self, store: MemoryStore, tmp_path: Path) -> None:
        old = add(store, NOW - 2 * DAY)
        for day in range(2):
            store.data[add(store, NOW - day * DAY)] = b""
        with pytest.raises(SnapshotError, match=f"it is empty.*Not tried: {old}; any can be asked for by its name"):
            get(tmp_path, store, candidates=2)
        assert list(tmp_path.iterdir()) == []
        assert get(tmp_path, store).copy.entry.name == old

    def test_a_store_that_cannot_be_read_is_told(self, store: MemoryStore, tmp_path: Path) -> None:
        other = MemoryStore("b")
        store.fails["listing"] = StoreError("no route")
        name = add(other, NOW)
        fetched = get(tmp_path, store, other)
        assert (fetched.copy.entry.name, fetched.unreachable) == (name, [{"store": "a", "problem": "no route"}])
        other.fails["listing"] = StoreError("no key")
        with pytest.raises(StoreError, match=r"\[a\] no route \[b\] no key"):
            get(tmp_path, store, other)

    def test_nothing_at_all(self, store: MemoryStore, tmp_path: Path) -> None:
        with pytest.raises(SnapshotError, match="No snapshot for 'latest' can be used: there is none"):
            get(tmp_path, store)

    def test_a_full_disk_here_is_no_reason_to_try_another(
        self, store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add(store, NOW - DAY)
        add(store, NOW)
        original = fetches.new_file

        @contextmanager
        def full(path: Path) -> Any:
            with original(path) as file:

                class Full:
                    def write(self, _data: bytes) -> None:
                        raise OSError(errno.ENOSPC, "No space left on device")

                yield Full()
                file.flush()

        monkeypatch.setattr(fetches, "new_file", full)
        with pytest.raises(StoreError, match="No space left on device"):
            get(tmp_path, store)
        assert store.changes().count("read") == 1
        assert list(tmp_path.iterdir()) == []


def _unreadable(store: MemoryStore, name: str) -> None:
    original = store.reader

    @contextmanager
    def reader(asked: str) -> Any:
        if asked == name:
            raise StoreError("it lies in an archive")
        with original(asked) as chunks:
            yield chunks

    store.reader = reader  # type: ignore[method-assign]


class TestByName:
    def test_a_flagged_one_with_a_warning(self, store: MemoryStore, tmp_path: Path) -> None:
        name = add(store, NOW, flagged="its index went back")
        assert "is flagged: its index went back" in get(tmp_path, store, name=name).warnings[0]

    def test_an_unproven_one_with_a_warning(self, store: MemoryStore, tmp_path: Path) -> None:
        name = add(store, NOW, none=True)
        fetched = get(tmp_path, store, name=name)
        assert "has no manifest" in fetched.warnings[0]
        assert [one.name for one in tmp_path.iterdir()] == [name]

    def test_there_is_no_other(self, store: MemoryStore, tmp_path: Path) -> None:
        add(store, NOW - DAY)
        name = add(store, NOW)
        store.data[name] = b""
        with pytest.raises(SnapshotError, match="it is empty"):
            get(tmp_path, store, name=name)


class TestByTime:
    @pytest.mark.parametrize("name", ["2026-11-23T02:00:00Z", "2026-11-23T02:00:00", "2026-11-23T04:00:00+02:00"])
    def test_the_newest_that_is_not_younger(self, store: MemoryStore, tmp_path: Path, name: str) -> None:
        names = [add(store, NOW - day * DAY, 10 - day) for day in range(3)]
        assert get(tmp_path, store, name=name).copy.entry.name == names[1]

    def test_nonsense(self, store: MemoryStore, tmp_path: Path) -> None:
        with pytest.raises(SnapshotError, match="'yesterday' is neither 'latest'"):
            get(tmp_path, store, name="yesterday")


class TestTheClock:
    def test_an_old_one_from_the_future_is_not_the_latest(self, store: MemoryStore, tmp_path: Path) -> None:
        add(store, NOW + 400 * DAY, 5)
        name = add(store, NOW - DAY, 9)
        assert get(tmp_path, store).copy.entry.name == name

    def test_with_a_clock_that_went_back_it_is(self, store: MemoryStore, tmp_path: Path) -> None:
        newest = add(store, NOW + 7 * DAY, 9)
        add(store, NOW + 6 * DAY, 8)
        add(store, NOW - DAY, 5)
        assert get(tmp_path, store).copy.entry.name == newest

    def test_where_all_are_of_the_future_their_names_count(self, store: MemoryStore, tmp_path: Path) -> None:
        newest = add(store, NOW + 7 * DAY, 9)
        add(store, NOW + 6 * DAY, 8)
        assert get(tmp_path, store).copy.entry.name == newest


class TestOverview:
    def test_the_good_ones_first(self, store: MemoryStore) -> None:
        names = [
            add(store, NOW - 3 * DAY),
            add(store, NOW - 2 * DAY),
            add(store, NOW - DAY, flagged="it is empty"),
            add(store, NOW, none=True),
        ]
        told = overview([store], 20, NOW)
        assert [one["name"] for one in told["snapshots"]] == [names[1], names[0], names[2], names[3]]
        assert [one["verified"] for one in told["snapshots"]] == [True, True, True, False]
        assert told["latest"]["name"] == names[1]
        (state,) = told["stores"]
        assert (state["count"], state["unverified"], state["lacks"]) == (4, 1, ["a has no versioning."])

    def test_no_more_manifests_are_read_than_said(self, store: MemoryStore) -> None:
        for day in range(50):
            add(store, NOW - day * DAY)
        assert len(overview([store], 3, NOW)["snapshots"]) == 3

    def test_a_damaged_manifest_is_told(self, store: MemoryStore) -> None:
        add(store, NOW)
        store.fails["read_manifest"] = StoreError("damaged")
        (one,) = overview([store], 3, NOW)["snapshots"]
        assert (one["verified"], one["problem"]) == (False, "damaged")

    def test_a_store_that_cannot_be_read(self, store: MemoryStore) -> None:
        store.fails["listing"] = StoreError("no route")
        told = overview([store, MemoryStore("b")], 3, NOW)
        assert [one["problem"] for one in told["stores"]] == ["no route", None]
        assert told["latest"] is None
