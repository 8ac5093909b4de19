# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest beside a snapshot, and what its absence, damage or mismatch means."""

from __future__ import annotations

import getpass
import json
import platform
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.archive import verify_file
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.errors import SnapshotMismatchError
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.manifest import (
    Origin,
    check_manifest,
    manifest_path,
    read_manifest,
    told_seal,
    write_manifest,
)
from lab import archives

ORIGIN = Origin("prod", "id-1", "1.21.0", "awskms", "https://vault-1:8200")
HALF_PAST_FIVE = datetime(2026, 11, 24, 6, 30, tzinfo=timezone(timedelta(hours=1)))


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    path = tmp_path / "prod-20261124T053000Z.snap"
    path.write_bytes(archives.archive())
    return path


def test_tells_what_the_archive_does_not(snapshot: Path) -> None:
    info = verify_file(snapshot)
    manifest = write_manifest(snapshot, info, ORIGIN, HALF_PAST_FIVE)
    assert manifest_path(snapshot).name == "prod-20261124T053000Z.snap.json"
    assert read_manifest(snapshot) == manifest
    assert manifest == {
        "format": 1,
        "name": snapshot.name,
        "taken_at": "2026-11-24T05:30:00+00:00",
        "taken_by": {"host": platform.node(), "user": getpass.getuser()},
        "cluster_name": "prod",
        "cluster_id": "id-1",
        "vault_version": "1.21.0",
        "seal_type": "awskms",
        "seal_key_id": None,
        "node": "https://vault-1:8200",
        "index": 4711,
        "term": 3,
        "size": snapshot.stat().st_size,
        "sha256": info.sha256,
        "key_counts": info.key_counts,
        "flagged": None,
    }


def test_what_was_not_told_is_null(snapshot: Path) -> None:
    write_manifest(snapshot, verify_file(snapshot), Origin(), HALF_PAST_FIVE)
    assert json.loads(manifest_path(snapshot).read_text())["seal_type"] is None


def test_none_is_no_mismatch(snapshot: Path) -> None:
    assert read_manifest(snapshot) is None
    check_manifest(snapshot, verify_file(snapshot), None)


def test_damaged(snapshot: Path) -> None:
    manifest_path(snapshot).write_text('{"format": 1')
    with pytest.raises(StoreError, match=f"{snapshot}.json is damaged.*Move it aside"):
        read_manifest(snapshot)


def test_its_own_bytes(snapshot: Path) -> None:
    info = verify_file(snapshot)
    check_manifest(snapshot, info, write_manifest(snapshot, info, ORIGIN, HALF_PAST_FIVE))


def test_other_bytes(snapshot: Path) -> None:
    old = verify_file(snapshot)
    manifest = write_manifest(snapshot, old, ORIGIN, HALF_PAST_FIVE)
    archives.write_archive(snapshot, meta={"Index": 9})
    new = verify_file(snapshot)
    with pytest.raises(SnapshotMismatchError) as caught:
        check_manifest(snapshot, new, manifest)
    assert f"(sha256 {new.sha256}, index 9; expected {old.sha256}, index 4711)" in str(caught.value)


@pytest.mark.parametrize("sha256", [None, "", "0" * 64])
def test_a_manifest_that_vouches_for_nothing(snapshot: Path, sha256: str | None) -> None:
    with pytest.raises(SnapshotMismatchError):
        check_manifest(snapshot, verify_file(snapshot), {"sha256": sha256})


@pytest.mark.parametrize(
    ("version", "doubtful"),
    [
        ("1.14.10", True),
        ("1.13.4+ent", True),
        ("2.0.0", True),
        ("2.3.2", True),
        ("1.15.0", False),
        ("1.21.0", False),
        ("2.4.0", False),
        ("2.6.2", False),
        (None, False),
    ],
)
def test_shamir_may_be_the_type_of_the_recovery_keys(version: str | None, doubtful: bool) -> None:
    assert told_seal({"seal_type": "shamir", "vault_version": version}) == (None if doubtful else "shamir")
    assert told_seal({"seal_type": "awskms", "vault_version": version}) == "awskms"
    assert told_seal({}) is None
