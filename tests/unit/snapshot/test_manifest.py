# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest beside a snapshot, and what its absence, damage or mismatch means."""

from __future__ import annotations

import getpass
import json
import platform
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError, write_json
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.journal import Journal
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.page import html
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.preflight import Situation, plan
from ansible_collections.custodes.security_dr.plugins.module_utils.recovery.report import (
    RECOVERED,
    Ending,
    build_record,
    markdown,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.archive import SnapshotReader, verify_file
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.catalogue import overview
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.description import describe
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.errors import (
    SnapshotError,
    SnapshotMismatchError,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.fetch import fetch
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.manifest import (
    LONGEST,
    Origin,
    build_manifest,
    check_manifest,
    known_seal_type,
    manifest_path,
    parse_manifest,
    read_manifest,
    write_manifest,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores.filesystem import FilesystemStore
from hypothesis import given
from hypothesis import strategies as st
from lab import archives

ORIGIN = Origin("prod", "id-1", "1.21.0", "awskms", "https://vault-1:8200")
GOOD = archives.archive()
READ = SnapshotReader()
READ.feed(GOOD)
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
    assert known_seal_type({"seal_type": "shamir", "vault_version": version}) == (None if doubtful else "shamir")
    assert known_seal_type({"seal_type": "awskms", "vault_version": version}) == "awskms"
    assert known_seal_type({}) is None


DEEP = b'{"index": 1, "x": ' + b"[" * 10**5 + b"]" * 10**5 + b"}"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"vault_version": 5}', "its vault_version is 5, not a line of"),
        (b'{"vault_version": "' + b"9" * 5000 + b'"}', "its vault_version is '9999"),
        (b'{"seal_type": ["awskms"]}', r"its seal_type is \['awskms'\], not a line of"),
        (b'{"cluster_name": "a\\u001b[2Jb"}', "its cluster_name is"),
        (b'{"index": true}', "its index is True, not a whole number"),
        (b'{"size": -1}', "its size is -1"),
        (b'{"term": ' + b"9" * 5000 + b"}", "is damaged"),
        (b'{"taken_at": "2026-11-24T05:30:00"}', "its taken_at is '2026-11-24T05:30:00', not a time in"),
        (b'{"taken_at": "0001-01-01T00:00:00+23:00"}', "its taken_at is"),
        (b'{"taken_by": {"user": 5}}', "its taken_by is"),
        (b'{"key_counts": {"core": "3"}}', "its key_counts is"),
        (b'{"flagged": true}', "its flagged is True"),
        (b'{"escrow_of": "x"}', "its escrow_of is 'x'"),
        (b'{"later": NaN}', "a value that JSON or UTF-8 does not have"),
        (b'{"later": "\\ud800"}', "a value that JSON or UTF-8 does not have"),
        (b'{"later": ' + b"[" * 9 + b"]" * 9 + b"}", "it is nested too deeply"),
        (DEEP, "it is nested too deeply"),
        (b"{" + b" " * LONGEST + b"}", f"more than {LONGEST} bytes"),
    ],
)
def test_a_manifest_that_no_backup_has_written_is_damaged(snapshot: Path, data: bytes, why: str) -> None:
    manifest_path(snapshot).write_bytes(data)
    for read in (
        lambda: read_manifest(snapshot),
        lambda: FilesystemStore(str(snapshot.parent)).read_manifest(snapshot.name),
        lambda: parse_manifest(data, f"{snapshot}.json"),
    ):
        with pytest.raises(StoreError, match=f"{snapshot}.json.*{why}"):
            read()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.from_regex(r"[0-9T:+.Z-]{1,30}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [*build_manifest("x", READ.finish(), ORIGIN, HALF_PAST_FIVE), "escrow_of", "of_a_later_format"]
NODE = {
    **dict.fromkeys(("url", "version", "problem", "cluster_name")),
    "reachable": True,
    "product": "Vault",
    "http_status": 501,
    "leader_address": None,
    "cluster_id": None,
    "removed_from_cluster": False,
    "initialized": False,
    "sealed": True,
    "version": "1.21.0",
    "seal": {"type": "awskms"},
}


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4))
def test_no_value_of_a_manifest_raises_anything_but_the_documented_errors(changed: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "prod-20261124T053000Z.snap")
        path.write_bytes(GOOD)
        manifest = build_manifest(path.name, verify_file(path), ORIGIN, HALF_PAST_FIVE)
        manifest_path(path).write_text(json.dumps({**manifest, **changed}))
        try:
            described = describe(path)
            store = FilesystemStore(folder)
            with suppress(SnapshotError):
                fetch([store], path.name, Path(folder, "fetched.snap"), 1, HALF_PAST_FIVE)
            overview([store], 5, HALF_PAST_FIVE)
        except StoreError as error:
            assert "is damaged" in str(error)  # noqa: PT017 - most values are valid
            return
        if not described["verified"]:
            return
        plan(Situation(nodes=[NODE], snapshot=described))
        journal = Journal.new(Path(folder), [], HALF_PAST_FIVE)
        journal.data["snapshot"] = described
        record = build_record(journal, Ending(RECOVERED, 900), HALF_PAST_FIVE)
        write_json(Path(folder, "record.json"), record)
        assert markdown(record).encode()
        assert html(record, folder).encode()
