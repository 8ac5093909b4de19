# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A snapshot as the modules describe it; which one is chosen when the newest is not what it should be."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.archive import verify_file
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.description import describe, describe_choice
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.errors import SnapshotError
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.manifest import (
    Origin,
    manifest_path,
    write_manifest,
)
from lab import archives

GOOD = archives.archive()
TAKEN = datetime(2026, 11, 24, 2, 0, 30, tzinfo=timezone.utc)


def put(folder: Path, day: int, data: bytes = GOOD) -> Path:
    path = folder / f"prod-202611{day:02d}T020000Z.snap"
    path.write_bytes(data)
    return path


class TestDescribe:
    def test_sound(self, tmp_path: Path) -> None:
        path = put(tmp_path, 24)
        told = describe(path)
        info = verify_file(path)
        assert (told["path"], told["verified"], told["problem"], told["manifest"]) == (str(path), True, None, None)
        assert told["taken_at"] == "2026-11-24T02:00:00+00:00"
        for name in ("index", "term", "size", "state_size", "sha256", "key_counts"):
            assert told[name] == getattr(info, name)

    def test_the_manifest_knows_best_when_it_was_taken(self, tmp_path: Path) -> None:
        path = put(tmp_path, 24)
        manifest = write_manifest(path, verify_file(path), Origin("prod"), TAKEN)
        told = describe(path)
        assert (told["taken_at"], told["manifest"]) == ("2026-11-24T02:00:30+00:00", manifest)

    def test_else_its_name_else_its_file_time(self, tmp_path: Path) -> None:
        path = tmp_path / "vault.snap"
        path.write_bytes(GOOD)
        os.utime(path, (0, 0))
        assert describe(path)["taken_at"] == "1970-01-01T00:00:00+00:00"

    def test_damaged_is_an_answer(self, tmp_path: Path) -> None:
        path = put(tmp_path, 24, GOOD[:-1])
        told = describe(path)
        assert (told["path"], told["verified"]) == (str(path), False)
        assert "not an intact snapshot" in told["problem"]
        assert "index" not in told

    def test_so_is_a_mismatch(self, tmp_path: Path) -> None:
        path = put(tmp_path, 24)
        manifest_path(path).write_text('{"sha256": "of another one"}')
        told = describe(path)
        assert told["verified"] is False
        assert "not the one that" in told["problem"]

    @pytest.mark.parametrize(("name", "said"), [("none.snap", "No such file"), ("", "Not a regular file")])
    def test_nothing_to_describe_is_none(self, tmp_path: Path, name: str, said: str) -> None:
        with pytest.raises(StoreError, match=f"Cannot read the snapshot {tmp_path / name}: {said}"):
            describe(tmp_path / name)


class TestChoice:
    def test_the_newest(self, tmp_path: Path) -> None:
        put(tmp_path, 23)
        newest = put(tmp_path, 24)
        told = describe_choice(tmp_path, 3)
        assert (told["path"], told["verified"], told["rejected"]) == (str(newest), True, [])

    @pytest.mark.parametrize(("data", "manifest"), [(b"", None), (GOOD, '{"sha256": "of another one"}')])
    def test_goes_back_past_one_that_is_not_what_it_should_be(
        self, tmp_path: Path, data: bytes, manifest: str | None
    ) -> None:
        older = put(tmp_path, 23)
        newest = put(tmp_path, 24, data)
        if manifest is not None:
            manifest_path(newest).write_text(manifest)
        told = describe_choice(tmp_path, 3)
        assert told["path"] == str(older)
        ((rejected),) = told["rejected"]
        assert rejected["path"] == str(newest)
        assert str(newest) in rejected["problem"]

    def test_none_is_a_failure(self, tmp_path: Path) -> None:
        put(tmp_path, 23)
        put(tmp_path, 24, b"")
        with pytest.raises(SnapshotError, match=r"1 tried.*1 older ones were not tried"):
            describe_choice(tmp_path, 1)
