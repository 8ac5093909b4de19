# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Buckets as snapshot stores: what lies there afterwards, and what the service can do to an upload."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores import open_store
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores.base import Store
from lab import Lab
from lab.cloud import Moto
from lab.faulty import FaultyS3

NAME = "vault-20261124T053000Z.snap"
OLD = "vault-20261123T053000Z.snap"
PREFIX = "snapshots/eu"

SMALL = b"a small snapshot" * 1000
LARGE = os.urandom(2**20) * 20
"""Three parts, the last one not full."""

_numbers = itertools.count()


@pytest.fixture
def moto(lab: Lab) -> Moto:
    return lab.moto


@pytest.fixture
def bucket(moto: Moto) -> str:
    return moto.create_bucket(f"stores-{next(_numbers)}")


@pytest.fixture
def faulty(moto: Moto) -> Iterator[FaultyS3]:
    with FaultyS3(moto.endpoint) as proxy:
        yield proxy


def opened(moto: Moto, bucket: str, **options: Any) -> Store:
    known = {
        "type": "s3",
        "bucket": bucket,
        "prefix": PREFIX,
        "region": moto.region,
        "endpoint_url": moto.endpoint,
        "access_key": moto.access_key,
        "secret_key": moto.secret_key,
        "timeout": 60,
    }
    return open_store({**known, **options})


def put(store: Store, data: bytes, name: str = NAME) -> str:
    """Store it in blocks as a download has them, and return its SHA-256."""
    with store.writer(name) as writer:
        for start in range(0, len(data), 100_000):
            writer.write(data[start : start + 100_000])
    return hashlib.sha256(data).hexdigest()


def refused(store: Store, data: bytes, name: str = NAME) -> str:
    """Store it in vain, and return the message."""
    with pytest.raises(StoreError) as caught:
        put(store, data, name)
    return str(caught.value)


def content(store: Store, name: str = NAME) -> bytes:
    with store.reader(name) as chunks:
        return b"".join(chunks)


def head(moto: Moto, bucket: str, name: str = NAME) -> dict[str, Any]:
    found: dict[str, Any] = moto.s3().head_object(Bucket=bucket, Key=f"{PREFIX}/{name}")
    return found


def uploads(moto: Moto, bucket: str) -> list[str]:
    return [upload["Key"] for upload in moto.s3().list_multipart_uploads(Bucket=bucket).get("Uploads", [])]


def assert_nothing_is_left(moto: Moto, bucket: str, store: Store) -> None:
    assert store.listing() == []
    assert moto.s3().list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert uploads(moto, bucket) == []


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "at once", "in parts"])
def test_what_was_written_is_there(moto: Moto, bucket: str, data: bytes) -> None:
    store = opened(moto, bucket)

    sha256 = put(store, data)

    assert store.label == f"s3://{bucket}/{PREFIX}"
    assert content(store) == data
    assert store.checksum_matches(NAME, sha256) is True
    (stored,) = store.listing()
    assert (stored.name, stored.size, stored.has_manifest) == (NAME, len(data), False)
    assert stored.taken_at == datetime(2026, 11, 24, 5, 30, tzinfo=timezone.utc)
    assert uploads(moto, bucket) == []


def test_a_manifest_proves_a_snapshot_and_goes_with_it(moto: Moto, bucket: str) -> None:
    store = opened(moto, bucket)
    put(store, SMALL)
    assert store.read_manifest(NAME) is None

    store.write_manifest(NAME, {"index": 7})

    assert store.listing()[0].has_manifest
    assert store.read_manifest(NAME) == {"index": 7}
    store.delete(NAME)
    store.delete(NAME)
    assert_nothing_is_left(moto, bucket, store)


def test_a_damaged_manifest_is_no_manifest(moto: Moto, bucket: str) -> None:
    store = opened(moto, bucket)
    for damaged in (b"{", b"[]", b"\xff"):
        moto.s3().put_object(Bucket=bucket, Key=f"{PREFIX}/{NAME}.json", Body=damaged)
        with pytest.raises(StoreError, match=rf"{NAME}\.json is damaged"):
            store.read_manifest(NAME)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["at once", "in parts"])
def test_objects_have_what_the_options_ask_for(moto: Moto, bucket: str, data: bytes) -> None:
    store = opened(
        moto, bucket, kms_key_id=moto.key_id, storage_class="STANDARD_IA", tags={"owner": "a = b", "service": "vault"}
    )
    put(store, data)
    store.write_manifest(NAME, {})

    for name, storage_class in ((NAME, "STANDARD_IA"), (f"{NAME}.json", None)):
        found = head(moto, bucket, name)
        assert found["ServerSideEncryption"] == "aws:kms"
        assert found["SSEKMSKeyId"] == moto.key_id
        assert found.get("StorageClass") == storage_class
        tags = moto.s3().get_object_tagging(Bucket=bucket, Key=f"{PREFIX}/{name}")["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == {"owner": "a = b", "service": "vault"}


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["at once", "in parts"])
@pytest.mark.parametrize(("asked", "set_"), [(None, "aws:kms"), ("AES256", "AES256"), ("none", None)])
def test_encryption_is_what_was_asked_for(
    moto: Moto, bucket: str, data: bytes, asked: str | None, set_: str | None
) -> None:
    put(opened(moto, bucket, server_side_encryption=asked), data)

    assert head(moto, bucket).get("ServerSideEncryption") == set_


def test_object_lock_holds_the_snapshot_and_its_manifest(moto: Moto) -> None:
    # At once: moto forgets the lock of what comes in parts; that it is asked for is a unit test.
    bucket = moto.create_bucket(f"stores-{next(_numbers)}", locked=True)
    store = opened(moto, bucket, object_lock_mode="COMPLIANCE", object_lock_days=3)
    put(store, SMALL)
    store.write_manifest(NAME, {})

    for name in (NAME, f"{NAME}.json"):
        found = head(moto, bucket, name)
        assert found["ObjectLockMode"] == "COMPLIANCE"
        left = found["ObjectLockRetainUntilDate"] - datetime.now(timezone.utc)
        assert timedelta(days=2, hours=23) < left <= timedelta(days=3)


def test_a_versioned_bucket_keeps_what_was_deleted(moto: Moto) -> None:
    bucket = moto.create_bucket(f"stores-{next(_numbers)}", versioned=True)
    store = opened(moto, bucket)
    put(store, SMALL)

    store.delete(NAME)

    assert store.listing() == []
    versions = moto.s3().list_object_versions(Bucket=bucket)
    assert [version["Key"] for version in versions["Versions"]] == [f"{PREFIX}/{NAME}"]


def test_no_snapshot_is_overwritten(moto: Moto, bucket: str) -> None:
    store = opened(moto, bucket)
    moto.s3().put_object(Bucket=bucket, Key=f"{PREFIX}/{NAME}.json", Body=b"{}")
    put(store, SMALL)

    assert "exists already and is not overwritten" in refused(store, b"another")
    assert content(store) == SMALL


def test_a_listing_goes_through_every_page_and_stays_under_its_prefix(moto: Moto, bucket: str) -> None:
    start = datetime(2020, 1, 1, tzinfo=timezone.utc)
    names = [f"vault-{start + timedelta(hours=number):%Y%m%dT%H%M%SZ}.snap" for number in range(520)]
    keys = [f"{PREFIX}/{name}{suffix}" for name in names for suffix in ("", ".json")]
    keys += [f"{PREFIX}/deeper/{NAME}", f"{PREFIX}-2/{NAME}", f"{PREFIX}/.{NAME}", f"{PREFIX}/notes.txt", NAME]
    moto.fill_bucket(bucket, keys)
    with FaultyS3(moto.endpoint) as proxy:
        found = opened(moto, bucket, endpoint_url=proxy.endpoint).listing()

    assert [stored.name for stored in found] == names[::-1]
    assert all(stored.has_manifest for stored in found)
    assert set(proxy.seen) == {"ListObjectsV2"}
    assert len(proxy.seen) == 2


def test_memory_does_not_grow_with_the_snapshot(moto: Moto, bucket: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    block = os.urandom(2**20)
    with opened(moto, bucket).writer(NAME) as writer:
        for _unused in range(80):
            writer.write(block)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 48, f"{grown:.0f} MiB"


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("ListObjectsV2", "unavailable"),
        ("PutObject", "cut"),
        ("CreateMultipartUpload", "slow_down"),
        ("UploadPart", "unavailable"),
        ("UploadPart", "slow_down"),
        ("UploadPart", "cut"),
        ("CompleteMultipartUpload", "slow_down"),
    ],
)
def test_what_passes_is_ridden_out(moto: Moto, bucket: str, faulty: FaultyS3, kind: str, operation: str) -> None:
    store = opened(moto, bucket, endpoint_url=faulty.endpoint)
    faulty.fail(kind, operation, times=2)
    data = SMALL if operation == "PutObject" else LARGE

    sha256 = put(store, data)

    assert sum(seen.startswith(operation) for seen in faulty.seen) >= 3
    assert store.checksum_matches(NAME, sha256) is True
    assert content(store) == data


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["at once", "in parts"])
@pytest.mark.parametrize("operation", ["PutObject", "UploadPart", "CompleteMultipartUpload"])
def test_an_answer_that_is_lost_is_no_failure(
    moto: Moto, bucket: str, faulty: FaultyS3, data: bytes, operation: str
) -> None:
    store = opened(moto, bucket, endpoint_url=faulty.endpoint)
    faulty.fail("lose_answer", operation, times=1)

    assert store.checksum_matches(NAME, put(store, data)) is True
    assert uploads(moto, bucket) == []


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("unavailable", r"503 ServiceUnavailable: .* \(tried 2 times\)\. The service is overloaded or broken"),
        ("slow_down", r"503 SlowDown: Please reduce your request rate \(tried 2 times\)\. The service is overloaded"),
        ("denied", r"403 AccessDenied: .*rights that docs/snapshot-stores\.md lists"),
        ("expired", r"400 ExpiredToken: .*Check the credentials, whether they have expired"),
        ("hang", r"got no answer: .*Check endpoint_url, region, network and firewall"),
        ("cut", r"got no answer: .*Check endpoint_url, region, network and firewall"),
    ],
)
@pytest.mark.parametrize(("operation", "part"), [("PutObject", None), ("UploadPart", 2)])
def test_what_lasts_fails_in_bounded_time_and_leaves_nothing(
    moto: Moto, bucket: str, faulty: FaultyS3, kind: str, said: str, operation: str, part: int | None
) -> None:
    store = opened(moto, bucket, endpoint_url=faulty.endpoint, timeout=4 if kind == "hang" else 20, retries=1)
    faulty.fail(kind, operation, part)

    message = refused(store, SMALL if operation == "PutObject" else LARGE)

    of_part = f" (part {part})" if part else ""
    start = f"Cannot upload {NAME}{of_part} in s3://{bucket}/{PREFIX} at {faulty.endpoint}: {operation} "
    assert message.startswith(start)
    assert re.search(said, message), message
    faulty.heal()
    assert_nothing_is_left(moto, bucket, store)
    assert store.checksum_matches(NAME, put(store, SMALL)) is True


def test_a_service_that_dies_in_mid_upload_is_cleaned_up_later(moto: Moto, bucket: str, faulty: FaultyS3) -> None:
    store = opened(moto, bucket, endpoint_url=faulty.endpoint, retries=0)
    faulty.fail("cut", "UploadPart", part=2)
    faulty.fail("unavailable", "AbortMultipartUpload")

    assert "(part 2)" in refused(store, LARGE)

    faulty.heal()
    assert uploads(moto, bucket) == [f"{PREFIX}/{NAME}"]
    assert store.listing() == []
    (cleaned,) = store.clean(timedelta(hours=1))
    assert f"unfinished upload of s3://{bucket}/{PREFIX}/{NAME}" in cleaned
    assert_nothing_is_left(moto, bucket, store)
    assert store.clean(timedelta(hours=1)) == []


def test_cleaning_leaves_others_uploads_alone(moto: Moto, bucket: str) -> None:
    theirs = [f"{PREFIX}/deeper/{NAME}", f"{PREFIX}/film.mkv", f"{PREFIX}-2/{NAME}", NAME]
    for key in theirs:
        moto.s3().create_multipart_upload(Bucket=bucket, Key=key)

    assert opened(moto, bucket).clean(timedelta(0)) == []
    assert sorted(uploads(moto, bucket)) == sorted(theirs)


def test_a_download_that_dies_under_way_is_told_and_its_upload_taken_back(moto: Moto, bucket: str) -> None:
    store = opened(moto, bucket)

    def stream() -> None:
        with store.writer(NAME) as writer:
            writer.write(LARGE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream()
    assert_nothing_is_left(moto, bucket, store)


def test_what_changed_on_its_way_does_not_match(moto: Moto, bucket: str, faulty: FaultyS3) -> None:
    # S3 itself would refuse it at once, by the checksum in the request; moto does not look.
    store = opened(moto, bucket, endpoint_url=faulty.endpoint)
    faulty.fail("corrupt", "UploadPart", part=2)

    assert store.checksum_matches(NAME, put(store, LARGE)) is False


def test_what_was_replaced_afterwards_does_not_match(moto: Moto, bucket: str) -> None:
    store = opened(moto, bucket)
    sha256 = put(store, SMALL)
    assert store.checksum_matches(NAME, hashlib.sha256(b"other").hexdigest()) is False

    moto.s3().put_object(Bucket=bucket, Key=f"{PREFIX}/{NAME}", Body=SMALL[::-1], ChecksumAlgorithm="SHA256")
    assert store.checksum_matches(NAME, sha256) is False
    moto.s3().put_object(Bucket=bucket, Key=f"{PREFIX}/{NAME}", Body=b"short")
    assert store.checksum_matches(NAME, sha256) is False
    moto.s3().delete_object(Bucket=bucket, Key=f"{PREFIX}/{NAME}")
    assert store.checksum_matches(NAME, sha256) is False


def test_what_cannot_be_told_is_read_back_by_the_caller(moto: Moto, bucket: str) -> None:
    store = opened(moto, bucket)
    sha256 = put(store, SMALL)
    moto.s3().put_object(Bucket=bucket, Key=f"{PREFIX}/{NAME}", Body=SMALL, ContentType="no/checksum")
    moto.s3().copy_object(
        Bucket=bucket, Key=f"{PREFIX}/{OLD}", CopySource={"Bucket": bucket, "Key": f"{PREFIX}/{NAME}"}
    )

    assert store.checksum_matches(OLD, sha256) is None


def test_a_read_that_is_cut_is_no_shorter_snapshot(moto: Moto, bucket: str, faulty: FaultyS3) -> None:
    store = opened(moto, bucket, endpoint_url=faulty.endpoint)
    put(store, LARGE)
    faulty.fail("cut", "GetObject")

    with pytest.raises(StoreError, match=rf"Cannot read {NAME} in s3://{bucket}/{PREFIX} at .*: GetObject got no"):
        content(store)


def test_a_slow_line_is_not_a_dead_one(moto: Moto, bucket: str, faulty: FaultyS3) -> None:
    """An 8 MiB part takes longer than the 5 s in which a connection has to be there."""
    store = opened(moto, bucket, endpoint_url=faulty.endpoint, retries=0, timeout=30)
    faulty.rate = 1024 * 1024
    faulty.fail("slow", "UploadPart", part=1)

    assert store.checksum_matches(NAME, put(store, LARGE)) is True


def test_what_is_not_there_is_said(moto: Moto, bucket: str) -> None:
    store = opened(moto, bucket)
    with pytest.raises(StoreError, match=f"Cannot read {NAME} .* 404 NoSuchKey.*List what this store holds"):
        content(store)
    nowhere = opened(moto, "there-is-no-such-bucket")
    for ask in (nowhere.listing, nowhere.lacks, lambda: nowhere.clean(timedelta(0))):
        with pytest.raises(StoreError, match=r"404 NoSuchBucket.*Create the bucket, or correct bucket"):
            ask()
    assert "404 NoSuchBucket" in refused(nowhere, SMALL)


def test_an_endpoint_where_nobody_listens_is_named(moto: Moto, bucket: str) -> None:
    store = opened(moto, bucket, endpoint_url="http://127.0.0.1:9", retries=0)
    with pytest.raises(
        StoreError, match=r"at http://127\.0\.0\.1:9: ListObjectsV2 got no answer: .*Check endpoint_url"
    ):
        store.listing()


def test_a_bucket_says_what_it_lacks(moto: Moto, bucket: str) -> None:
    lacking = "\n".join(
        opened(moto, bucket, vault_region=moto.region, object_lock_mode="GOVERNANCE", object_lock_days=1).lacks()
    )

    for said in ("versioning is not enabled", "object_lock_mode GOVERNANCE will be refused", "no default encryption"):
        assert said in lacking
    assert "public access is not blocked (BlockPublicAcls, IgnorePublicAcls," in lacking


def test_a_bucket_that_has_all_lacks_nothing(moto: Moto) -> None:
    bucket = moto.create_bucket(f"stores-{next(_numbers)}", locked=True)
    s3 = moto.s3()
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    block = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=block)

    assert opened(moto, bucket, vault_region="eu-north-1").lacks() == []
    assert ["one outage takes both" in lack for lack in opened(moto, bucket, vault_region=moto.region).lacks()] == [
        True
    ]
    (wrong,) = opened(moto, bucket, region="us-west-2").lacks()
    assert f"it lies in {moto.region}, not in us-west-2" in wrong


def test_questions_that_are_not_allowed_are_no_failure(moto: Moto, bucket: str, faulty: FaultyS3) -> None:
    store = opened(moto, bucket, endpoint_url=faulty.endpoint, retries=0)
    faulty.fail("denied")
    lacking = store.lacks()
    assert len(lacking) == 5
    assert all("could not look at" in lack and "403 AccessDenied" in lack for lack in lacking)

    faulty.heal()
    faulty.fail("unavailable")
    with pytest.raises(StoreError, match="503"):
        store.lacks()


def test_object_lock_is_named_when_it_refuses(moto: Moto, bucket: str, faulty: FaultyS3) -> None:
    store = opened(moto, bucket, endpoint_url=faulty.endpoint)
    put(store, SMALL)
    faulty.fail("locked", "DeleteObject")
    with pytest.raises(StoreError, match=r"Cannot delete .*Object lock holds it: wait until its time is over"):
        store.delete(NAME)
    assert content(store) == SMALL


def test_the_environment_gives_credentials_and_nothing_else(moto: Moto, bucket: str) -> None:
    """Neither a proxy nor another endpoint of the environment's; a process of its own, since botocore reads it once."""
    options = {"type": "s3", "bucket": bucket, "endpoint_url": moto.endpoint, "region": moto.region}
    code = (
        "import json, sys\n"
        "from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores import open_store\n"
        "store = open_store(json.loads(sys.argv[1]))\n"
        "with store.writer(sys.argv[2]) as writer:\n"
        "    writer.write(b'data')\n"
    )
    nowhere = "http://127.0.0.1:9"
    environment = {
        **moto.environment,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "AWS_ENDPOINT_URL": nowhere,
        "AWS_ENDPOINT_URL_S3": nowhere,
        "HTTP_PROXY": nowhere,
        "http_proxy": nowhere,
    }
    subprocess.run([sys.executable, "-c", code, json.dumps(options), NAME], env=environment, check=True, timeout=60)

    assert moto.s3().get_object(Bucket=bucket, Key=NAME)["Body"].read() == b"data"
