# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file of a folder is restored."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.archive import SnapshotInfo
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.errors import SnapshotError
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.library import newest_verified, taken_at
from lab import archives

GOOD = archives.archive()
# 2026-11-24 05:30 UTC
SAVED = 1795498200


def put(folder: Path, name: str, mtime: int = SAVED, data: bytes = GOOD) -> str:
    path = folder / name
    path.write_bytes(data)
    os.utime(path, (mtime, mtime))
    return str(path)


def refusal(path: object, candidates: int = 1) -> str:
    with pytest.raises(SnapshotError) as caught:
        newest_verified(str(path), candidates)
    return str(caught.value)


class TestFile:
    def test_is_taken_whatever_its_name(self, tmp_path: Path) -> None:
        path = put(tmp_path, ".old.backup")
        choice = newest_verified(path)
        assert (choice.path, choice.info.index, choice.rejected) == (path, 4711, [])
        assert choice.taken_at == datetime(2026, 11, 24, 5, 30, tzinfo=timezone.utc)

    def test_corrupt(self, tmp_path: Path) -> None:
        path = put(tmp_path, "vault.snap", data=GOOD[:-1])
        said = refusal(path, 9)
        assert said.startswith(f"No snapshot in {path} can be used, 1 tried: {path} is not an intact snapshot: it ends")
        assert "Fetch a copy from another store." in said

    def test_missing(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "x.snap") == f"{tmp_path}/x.snap does not exist. Name a snapshot or its folder."


class TestFolder:
    def test_newest_by_mtime(self, tmp_path: Path) -> None:
        put(tmp_path, "b.snap", SAVED)
        newest = put(tmp_path, "a.snap", SAVED + 1)
        put(tmp_path, "c.snap", SAVED - 1)
        assert newest_verified(str(tmp_path)).path == newest

    def test_tie_goes_to_the_later_name(self, tmp_path: Path) -> None:
        put(tmp_path, "a.snap")
        newest = put(tmp_path, "b.snap")
        assert newest_verified(str(tmp_path)).path == newest

    def test_time_in_the_name_beats_mtime(self, tmp_path: Path) -> None:
        newest = put(tmp_path, "vault-20261124T060000Z.snap", SAVED - 10**6)
        put(tmp_path, "vault-2026-11-24T05:59:59Z.snap", SAVED + 10**6)
        choice = newest_verified(str(tmp_path))
        assert choice.path == newest
        assert choice.taken_at == datetime(2026, 11, 24, 6, tzinfo=timezone.utc)

    def test_others_do_not_count(self, tmp_path: Path) -> None:
        good = put(tmp_path, "vault.snap", SAVED)
        for name in (".vault.snap", "vault.snap.partial", "vault.snap.json", "vault.tar"):
            put(tmp_path, name, SAVED + 60)
        (tmp_path / "folder.snap").mkdir()
        (tmp_path / "gone.snap").symlink_to("nowhere")
        choice = newest_verified(str(tmp_path), 9)
        assert (choice.path, choice.rejected) == (good, [])

    def test_goes_back_to_the_newest_that_verifies(self, tmp_path: Path) -> None:
        put(tmp_path, "1.snap", SAVED + 1)
        good = put(tmp_path, "2.snap", SAVED + 2)
        broken = put(tmp_path, "3.snap", SAVED + 3, b"")
        choice = newest_verified(str(tmp_path), 2)
        assert choice.path == good
        assert choice.rejected == [(broken, f"{broken} is not an intact snapshot: it is empty: 0 bytes")]

    def test_stops_at_the_number_of_candidates(self, tmp_path: Path) -> None:
        put(tmp_path, "1.snap", SAVED + 1)
        broken = [put(tmp_path, f"{n}.snap", SAVED + n, b"") for n in (2, 3)]
        said = refusal(tmp_path, 2)
        assert said.startswith(f"No snapshot in {tmp_path} can be used, 2 tried: {broken[1]} is not")
        assert f"; {broken[0]} is not an intact snapshot" in said
        assert "1 older ones were not tried: raise candidates (vault_recovery_snapshot_candidates)." in said

    def test_tries_no_older_one_than_needed(self, tmp_path: Path) -> None:
        put(tmp_path, "1.snap", SAVED + 1)
        newest = put(tmp_path, "2.snap", SAVED + 2)
        tried = []
        info = newest_verified(newest).info

        def verify(path: str) -> SnapshotInfo:
            tried.append(path)
            return info

        newest_verified(str(tmp_path), 2, verify=verify)
        assert tried == [newest]

    def test_one_that_cannot_be_read_is_no_end(self, tmp_path: Path) -> None:
        good = put(tmp_path, "1.snap", SAVED + 1)
        locked = put(tmp_path, "2.snap", SAVED + 2)
        info = newest_verified(good).info

        def verify(path: str) -> SnapshotInfo:
            if path == locked:
                raise PermissionError(13, "Permission denied", path)
            return info

        choice = newest_verified(str(tmp_path), 2, verify=verify)
        assert (choice.path, choice.rejected) == (good, [(locked, f"{locked} cannot be read: Permission denied")])

    def test_empty(self, tmp_path: Path) -> None:
        assert "no file there ends in .snap" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("20261124T053000Z.snap", "2026-11-24T05:30:00+00:00"),
        ("prod-2026-11-24T05:30:00Z-2.snap", "2026-11-24T05:30:00+00:00"),
        ("20261324T053000Z.snap", "1970-01-01T00:00:00+00:00"),
        ("20261124T053000.snap", "1970-01-01T00:00:00+00:00"),
        ("vault.snap", "1970-01-01T00:00:00+00:00"),
    ],
)
def test_taken_at(name: str, expected: str) -> None:
    assert taken_at(name, 0).isoformat() == expected
