# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bucket that keeps snapshots: what is asked of the service, which is botocore's stub here."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from io import BytesIO
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores import open_store, s3_upload
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores.s3 import S3Store
from ansible_collections.custodes.security_dr.plugins.module_utils.snapshot.stores.s3_client import (
    Bucket,
    make_client,
    timestamp,
)
from botocore import utils
from botocore.awsrequest import AWSResponse
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber
from urllib3 import HTTPResponse

NOW = datetime(2026, 11, 24, 6, 0, tzinfo=timezone.utc)
NAME = "vault-20261124T053000Z.snap"
OPTIONS = {"bucket": "backups", "prefix": "/eu/", "region": "eu-central-1", "access_key": "a", "secret_key": "s"}
MIB = 2**20


@pytest.fixture(scope="module")
def client() -> Any:
    return make_client(OPTIONS, timeout=1, retries=0)


@pytest.fixture
def stub(client: Any) -> Iterator[Stubber]:
    """Answers what it was told to, in that order, and only to the requests that it was told."""
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()


def store(client: Any, **options: Any) -> S3Store:
    return S3Store({**OPTIONS, **options}, client, now=lambda: NOW)


def entry(name: str, size: int = 5) -> dict[str, Any]:
    return {"Key": f"eu/{name}", "Size": size, "LastModified": NOW}


def nothing_there(stub: Stubber) -> None:
    stub.add_response("list_objects_v2", {}, {"Bucket": "backups", "Prefix": f"eu/{NAME}", "MaxKeys": 1})


def test_a_proxy_that_is_down_is_named_without_its_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    options = {**OPTIONS, "proxies": {"https": f"http://user:pass@127.0.0.1:{port}"}}
    bucket = Bucket({**options, "retries": 0, "timeout": 1})
    with pytest.raises(StoreError) as caught:
        bucket.send("head_bucket", "reach the bucket")
    said = str(caught.value)
    assert f"through the proxy 127.0.0.1:{port}: " in said
    assert "Correct proxies of this destination" in said
    assert "pass" not in said


def test_a_listing_goes_from_page_to_page(client: Any, stub: Stubber) -> None:
    asked = {"Bucket": "backups", "Prefix": "eu/", "Delimiter": "/"}
    first = [entry("vault-20261123T053000Z.snap"), entry("vault-20261123T053000Z.snap.json"), entry(NAME, 9)]
    second = [entry(f"{NAME}.json"), entry("other.txt"), entry(".hidden.snap"), entry("manual.snap")]
    stub.add_response("list_objects_v2", {"Contents": first, "IsTruncated": True, "NextContinuationToken": "t"}, asked)
    stub.add_response("list_objects_v2", {"Contents": second}, {**asked, "ContinuationToken": "t"})

    found = store(client).listing()

    assert [(stored.name, stored.size, stored.has_manifest) for stored in found] == [
        ("manual.snap", 5, False),
        (NAME, 9, True),
        ("vault-20261123T053000Z.snap", 5, True),
    ]
    assert found[0].taken_at == NOW


def test_a_page_that_comes_again_and_again_is_no_endless_loop(client: Any, stub: Stubber) -> None:
    for _unused in range(2):
        stub.add_response("list_objects_v2", {"IsTruncated": True, "NextContinuationToken": "t"}, None)

    with pytest.raises(StoreError, match=r"Cannot list the snapshots in s3://backups/eu at .*ListObjectsV2"):
        store(client).listing()


def test_only_old_uploads_of_snapshots_under_the_prefix_are_aborted(client: Any, stub: Stubber) -> None:
    def upload(name: str, age: int) -> dict[str, Any]:
        return {"Key": f"eu/{name}", "UploadId": name, "Initiated": NOW - timedelta(hours=age)}

    listed = [upload(NAME, 25), upload("vault-2.snap", 23), upload("film.mkv", 99), upload("deeper/vault.snap", 99)]
    asked = {"Bucket": "backups", "Prefix": "eu/"}
    stub.add_response(
        "list_multipart_uploads",
        {"Uploads": listed, "IsTruncated": True, "NextKeyMarker": "k", "NextUploadIdMarker": "u"},
        asked,
    )
    stub.add_response("abort_multipart_upload", {}, {"Bucket": "backups", "Key": f"eu/{NAME}", "UploadId": NAME})
    stub.add_response(
        "list_multipart_uploads",
        {"Uploads": [upload("vault-3.snap", 48)]},
        {**asked, "KeyMarker": "k", "UploadIdMarker": "u"},
    )
    # Somebody else was faster.
    stub.add_client_error("abort_multipart_upload", "NoSuchUpload", http_status_code=404)

    cleaned = store(client).clean(timedelta(days=1))

    assert cleaned == [
        f"unfinished upload of s3://backups/eu/{NAME}, begun 2026-11-23 05:00Z",
        "unfinished upload of s3://backups/eu/vault-3.snap, begun 2026-11-22 06:00Z",
    ]


def test_parts_carry_their_checksum_and_the_object_all_that_was_asked_for(client: Any, stub: Stubber) -> None:
    attributes = {
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "key",
        "StorageClass": "GLACIER_IR",
        "Tagging": "a=b%20c&d=e",
        "ObjectLockMode": "COMPLIANCE",
        "ObjectLockRetainUntilDate": NOW + timedelta(days=30),
        "ContentType": "application/gzip",
    }
    nothing_there(stub)
    upload = {"Bucket": "backups", "Key": f"eu/{NAME}"}
    stub.add_response(
        "create_multipart_upload", {"UploadId": "id"}, {**upload, "ChecksumAlgorithm": "SHA256", **attributes}
    )
    upload["UploadId"] = "id"
    stub.add_response(
        "upload_part",
        {"ETag": "one"},
        # sha256 of 8 MiB of zero bytes.
        {**upload, "PartNumber": 1, "Body": ANY, "ChecksumSHA256": "La6x82CVtEsxhBCz9Oi12Yncx7sCPRQmxJLasKMFPnQ="},
    )
    stub.add_client_error("upload_part", "AccessDenied", http_status_code=403)
    options = {
        "kms_key_id": "key",
        "storage_class": "GLACIER_IR",
        "tags": {"a": "b c", "d": "e"},
        "object_lock_mode": "COMPLIANCE",
        "object_lock_days": 30,
    }
    opened = store(client, **options)
    bucket = opened._bucket
    stub.add_response("abort_multipart_upload", {}, upload)
    bucket.impatient = lambda: bucket  # type: ignore[method-assign]

    def stream() -> None:
        with opened.writer(NAME) as writer:
            writer.write(bytes(8 * MIB))
            writer.write(b"1")
            writer._land(0)

    with pytest.raises(StoreError, match=rf"Cannot upload {NAME} \(part 2\) .*403 AccessDenied"):
        stream()


def test_an_archive_in_ten_thousand_parts_holds_a_large_vault() -> None:
    sizes = [s3_upload.part_size(number) for number in range(1, 10_001)]
    assert sum(sizes) > 350 * 2**30
    assert min(sizes) >= 5 * MIB


def test_blocks_of_any_size_become_parts_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []

    class Bucket:
        def send(self, operation: str, doing: str, **arguments: Any) -> dict[str, Any]:
            if operation == "upload_part":
                sent.append(arguments["Body"].read())
            return {"UploadId": "id", "ETag": "tag"}

    monkeypatch.setattr(s3_upload, "PART", 10)
    upload = s3_upload.Upload(Bucket(), "key", "name", {})  # type: ignore[arg-type]
    data = bytes(range(47))
    for start, end in ((0, 3), (3, 3), (3, 36), (36, 40), (40, 47)):
        upload.write(data[start:end])
    written = upload.finish()
    upload.close()

    assert sorted(sent) == [data[start : start + 10] for start in range(0, 47, 10)]
    assert (written.size, written.at_once) == (47, False)


def test_a_checksum_that_the_service_does_not_state_is_not_known(client: Any, stub: Stubber) -> None:
    opened = store(client)
    sha256 = "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"  # of "data"
    assert opened.checksum_matches(NAME, sha256) is None, "another process may have written it"
    nothing_there(stub)
    stub.add_response("put_object", {}, None)
    with opened.writer(NAME) as writer:
        writer.write(b"data")

    for answer, matches in (
        ({"ContentLength": 4}, None),
        ({"ContentLength": 4, "ChecksumSHA256": "Om6weQ85rIfJTzhWst0sXREOaBFgImGpqSPTuyOtyLc="}, True),
        ({"ContentLength": 4, "ChecksumSHA256": "AAAA"}, False),
        ({"ContentLength": 3}, False),
    ):
        stub.add_response("head_object", answer, {"Bucket": "backups", "Key": f"eu/{NAME}", "ChecksumMode": "ENABLED"})
        assert opened.checksum_matches(NAME, sha256) is matches


@pytest.mark.parametrize(
    ("endpoint", "payload"),
    [
        (None, "UNSIGNED-PAYLOAD"),
        ("https://minio.example", "UNSIGNED-PAYLOAD"),
        ("http://minio.example", "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"),
    ],
)
def test_a_body_is_hashed_once_under_tls_and_the_signature_covers_that(endpoint: str | None, payload: str) -> None:
    client = make_client({**OPTIONS, "endpoint_url": endpoint}, timeout=1, retries=0)
    sent: list[Any] = []

    def answer(request: Any, **_unused: Any) -> AWSResponse:
        sent.append(request)
        return AWSResponse(request.url, 200, {}, HTTPResponse(BytesIO(), preload_content=False))

    client.meta.events.register("before-send.s3.PutObject", answer)
    s3_upload.put(Bucket(OPTIONS, client), "key", "upload it", BytesIO(b"data"), {})

    (request,) = sent
    assert request.headers["X-Amz-Content-SHA256"].decode() == payload
    assert request.headers["x-amz-checksum-sha256"] == b"Om6weQ85rIfJTzhWst0sXREOaBFgImGpqSPTuyOtyLc="
    signed = re.search(r"SignedHeaders=([^,]*)", request.headers["Authorization"].decode())
    assert signed
    assert "x-amz-checksum-sha256" in signed[1].split(";")


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-24T05:30:00.000Z",
        "2026-11-24T05:30:00Z",
        "2026-11-24T05:30:00.25Z",
        "2026-11-24T05:30:00+02:00",
        "Tue, 24 Nov 2026 05:30:00 GMT",
        1795498200,
        "1795498200",
    ],
)
def test_a_time_is_the_one_that_botocore_reads(value: Any) -> None:
    assert timestamp(value) == utils.parse_timestamp(value)


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="Invalid timestamp"):
        timestamp("yesterdayZ")


def test_the_times_of_a_listing_are_read_without_dateutil(monkeypatch: pytest.MonkeyPatch) -> None:
    client = make_client(OPTIONS, timeout=1, retries=0)
    contents = (
        f"<Contents><Key>eu/manual.snap</Key><LastModified>{NOW:%Y-%m-%dT%H:%M:%S}.000Z</LastModified><Size>5</Size>"
    )
    xml = f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{contents}</Contents></ListBucketResult>'

    def answer(request: Any, **_unused: Any) -> AWSResponse:
        return AWSResponse(request.url, 200, {}, HTTPResponse(BytesIO(xml.encode()), preload_content=False))

    client.meta.events.register("before-send.s3.ListObjectsV2", answer)
    monkeypatch.setattr(utils.dateutil.parser, "parse", None)
    (found,) = store(client).listing()
    assert (found.name, found.taken_at) == ("manual.snap", NOW)


@pytest.mark.parametrize("data", [b"{", b'{"a": ' + b"[" * 10**5, b'{"vault_version": 5}', b" " * 3 * MIB + b"{}"])
def test_a_manifest_that_no_backup_has_written_is_damaged(client: Any, stub: Stubber, data: bytes) -> None:
    body = StreamingBody(BytesIO(data), len(data))
    stub.add_response("get_object", {"Body": body}, {"Bucket": "backups", "Key": f"eu/{NAME}.json"})
    with pytest.raises(StoreError, match=f"s3://backups/eu/{NAME}.json is damaged"):
        store(client).read_manifest(NAME)


def test_the_manifest_is_deleted_first(client: Any, stub: Stubber) -> None:
    stub.add_response("delete_object", {}, {"Bucket": "backups", "Key": f"eu/{NAME}.json"})
    stub.add_client_error("delete_object", "InternalError", http_status_code=500)

    with pytest.raises(StoreError, match=f"Cannot delete {NAME} in s3://backups/eu at https://.*500 InternalError"):
        store(client).delete(NAME)


@pytest.mark.parametrize(
    ("code", "status", "advice"),
    [
        ("InvalidAccessKeyId", 403, "Check the credentials"),
        ("RequestTimeTooSkewed", 403, "Set this host's clock"),
        ("KMS.DisabledException", 400, "KMS key is enabled"),
        ("InvalidObjectState", 403, "restore it there first"),
        ("NotImplemented", 501, "Turn off what this service does not have"),
        ("Whatever", 400, "Check the options of this destination"),
    ],
)
def test_an_error_says_what_to_do(client: Any, stub: Stubber, code: str, status: int, advice: str) -> None:
    stub.add_client_error("get_object", code, "because", status)
    with (
        pytest.raises(StoreError, match=rf"GetObject was answered {status} {code}: because\. .*{advice}"),
        store(client).reader(NAME),
    ):
        pass


def test_the_label_and_the_keys_follow_the_prefix(client: Any, stub: Stubber) -> None:
    assert store(client).label == "s3://backups/eu"
    assert store(client, prefix="").label == "s3://backups"
    stub.add_response("get_object", {"Body": BytesIO()}, {"Bucket": "backups", "Key": NAME})
    with store(client, prefix="").reader(NAME):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bucket": None}, "A s3 destination needs bucket"),
        ({"path": "/backup", "buckets": "b"}, "has no option buckets, path. It has bucket, prefix, "),
        (
            {"server_side_encryption": "kms"},
            "s3://backups/eu has server_side_encryption 'kms'; it is aws:kms, AES256 or",
        ),
        ({"addressing_style": "dns"}, "auto, path or virtual"),
        ({"object_lock_mode": "governance", "object_lock_days": 1}, "GOVERNANCE or COMPLIANCE"),
        ({"object_lock_mode": "GOVERNANCE"}, "needs object_lock_mode and object_lock_days together"),
        ({"object_lock_mode": "GOVERNANCE", "object_lock_days": 0}, "object_lock_days 0; it is 1 or more"),
        ({"secret_key": None}, "needs access_key and secret_key together"),
        (
            {"server_side_encryption": "AES256", "kms_key_id": "k"},
            "kms_key_id, which only server_side_encryption aws:kms",
        ),
        ({"tags": "a=b"}, "tags of a s3 destination is a dict, not a str"),
        ({"timeout": True}, "timeout of a s3 destination is a int, not a bool"),
        ({"retries": -1}, "retries -1; it is 0 or more"),
        ({"ca_cert": "/there/is/none.pem"}, "its ca_cert /there/is/none.pem cannot be read"),
        ({"profile": "there-is-none"}, r"could not be found"),
        ({"endpoint_url": "minio:9000"}, "Invalid endpoint"),
    ],
)
def test_options_that_cannot_be_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        open_store({"type": "s3", **OPTIONS, **options})


def test_secrets_are_in_no_message() -> None:
    with pytest.raises(StoreError) as caught:
        open_store({"type": "s3", **OPTIONS, "secret_key": "very-secret", "profile": "there-is-none"})
    assert "very-secret" not in str(caught.value)


def test_without_boto3_a_folder_works_and_a_bucket_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in ("botocore", "boto3")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "botocore", None)

    open_store({"type": "filesystem", "path": "/backup"})
    with pytest.raises(StoreError, match=r"has no boto3 .*Install it: .* -m pip install boto3"):
        open_store({"type": "s3", **OPTIONS})
