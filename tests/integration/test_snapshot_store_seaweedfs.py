# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The S3 store on SeaweedFS, a real server, in what moto only simulates: checksums, versions, object lock, paging."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores import open_store
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores.base import Store
from botocore.exceptions import ClientError
from integration.test_snapshot_stores import LARGE, NAME, OLD, PREFIX, SMALL, content, put
from lab import Lab
from lab.cloud import SeaweedFS
from lab.faulty import FaultyS3

_numbers = itertools.count()

Open = Callable[..., Store]

both_sizes = pytest.mark.parametrize("data", [SMALL, LARGE], ids=["at once", "in parts"])


@pytest.fixture
def s3(lab: Lab) -> SeaweedFS:
    return lab.seaweedfs


@pytest.fixture
def bucket(s3: SeaweedFS) -> str:
    return s3.create_bucket(f"stores-{next(_numbers)}", versioned=True)


def opened(s3: SeaweedFS, bucket: str, **options: Any) -> Store:
    """Open the store. SSE-S3 is the encryption that SeaweedFS has without a KMS."""
    known = {
        "type": "s3",
        "bucket": bucket,
        "prefix": PREFIX,
        "region": s3.region,
        "endpoint_url": s3.endpoint,
        "access_key": s3.access_key,
        "secret_key": s3.secret_key,
        "server_side_encryption": "AES256",
        "timeout": 60,
    }
    return open_store({**known, **options})


def versions(s3: SeaweedFS, bucket: str) -> list[tuple[str, str]]:
    listed = s3.s3().list_object_versions(Bucket=bucket).get("Versions", [])
    return [(version["Key"], version["VersionId"]) for version in listed]


@pytest.fixture
def proxy(s3: SeaweedFS) -> Iterator[FaultyS3]:
    with FaultyS3(s3.endpoint) as proxy:
        yield proxy


@both_sizes
def test_what_was_written_is_read_back_with_its_checksum(s3: SeaweedFS, bucket: str, data: bytes) -> None:
    store = opened(s3, bucket)

    sha256 = put(store, data)

    assert content(store) == data
    assert store.checksum_matches(NAME, sha256) is True
    head = s3.s3().head_object(Bucket=bucket, Key=f"{PREFIX}/{NAME}")
    assert head["ServerSideEncryption"] == "AES256"
    s3.s3().put_object(Bucket=bucket, Key=f"{PREFIX}/{NAME}", Body=data[::-1], ChecksumAlgorithm="SHA256")
    assert store.checksum_matches(NAME, sha256) is False


@both_sizes
def test_bytes_that_change_on_their_way_are_refused_by_the_server(
    s3: SeaweedFS, bucket: str, proxy: FaultyS3, data: bytes
) -> None:
    store = opened(s3, bucket, endpoint_url=proxy.endpoint, retries=0)
    proxy.fail("corrupt", "PutObject" if data is SMALL else "UploadPart")

    with pytest.raises(StoreError, match="BadDigest"):
        put(store, data)

    proxy.heal()
    assert opened(s3, bucket).listing() == []
    assert versions(s3, bucket) == []


def test_a_deleted_snapshot_is_a_version_that_can_be_brought_back(s3: SeaweedFS, bucket: str) -> None:
    store = opened(s3, bucket)
    put(store, SMALL)

    store.delete(NAME)

    assert store.listing() == []
    ((key, version),) = versions(s3, bucket)
    body = s3.s3().get_object(Bucket=bucket, Key=key, VersionId=version)["Body"].read()
    assert body == SMALL


@both_sizes
def test_a_locked_snapshot_and_its_manifest_survive_who_deletes_their_versions(s3: SeaweedFS, data: bytes) -> None:
    bucket = s3.create_bucket(f"stores-{next(_numbers)}", locked=True)
    store = opened(s3, bucket, object_lock_mode="COMPLIANCE", object_lock_days=3)
    put(store, data)
    store.write_manifest(NAME, {})

    store.delete(NAME)

    kept = versions(s3, bucket)
    assert sorted(key for key, _version in kept) == [f"{PREFIX}/{NAME}", f"{PREFIX}/{NAME}.json"]
    for key, version in kept:
        until = s3.s3().get_object_retention(Bucket=bucket, Key=key, VersionId=version)["Retention"]["RetainUntilDate"]
        assert timedelta(days=2, hours=23) < until - datetime.now(timezone.utc) <= timedelta(days=3)
        with pytest.raises(ClientError, match="AccessDenied"):
            s3.s3().delete_object(Bucket=bucket, Key=key, VersionId=version)


def test_a_snapshot_is_not_overwritten(s3: SeaweedFS, bucket: str) -> None:
    store = opened(s3, bucket)
    put(store, SMALL)

    with pytest.raises(StoreError, match="exists already and is not overwritten"):
        put(store, b"another")

    assert content(store) == SMALL


def test_a_listing_goes_through_every_page(s3: SeaweedFS, bucket: str, proxy: FaultyS3) -> None:
    start = datetime(2020, 1, 1, tzinfo=timezone.utc)
    names = [f"vault-{start + timedelta(hours=number):%Y%m%dT%H%M%SZ}.snap" for number in range(520)]
    client = s3.s3()
    for name in names:
        for key in (f"{PREFIX}/{name}", f"{PREFIX}/{name}.json"):
            client.put_object(Bucket=bucket, Key=key, Body=b"{}")
    client.put_object(Bucket=bucket, Key=f"{PREFIX}-2/{OLD}", Body=b"{}")

    found = opened(s3, bucket, endpoint_url=proxy.endpoint).listing()

    assert [stored.name for stored in found] == names[::-1]
    assert all(stored.has_manifest for stored in found)
    assert proxy.seen.count("ListObjectsV2") == 2
