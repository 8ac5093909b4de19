# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A snapshot on its way into a bucket: in parts, hashed and sent by two threads while the next one fills."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from ...files import StoreError
from .s3_client import Bucket, S3Error

PART = 8 * 2**20
"""Bytes of a part. Three are in memory at a time, and two destinations may be buckets."""

_SMALL_PARTS = 5000
_MANY = 8
_IN_FLIGHT = 2


@dataclass(frozen=True)
class Written:
    """What has to lie in the bucket.

    Attributes:
        size: bytes.
        checksum: SHA-256 in base64, as S3 states it: of the object that was sent at once; of the parts' checksums of
            one that was sent in parts.
        at_once: which of the two.
    """

    size: int
    checksum: str
    at_once: bool


@dataclass(frozen=True)
class _Part:
    number: int
    tag: str
    digest: bytes

    @property
    def named(self) -> dict[str, Any]:
        return {"PartNumber": self.number, "ETag": self.tag, "ChecksumSHA256": _base64(self.digest)}


def part_size(number: int) -> int:
    """Bytes of the part with this number, from 1. S3 takes 10,000: the later ones are larger, for 350 GiB in all."""
    return PART if number <= _SMALL_PARTS else PART * _MANY


class Upload:
    """Collects bytes and sends them; one request for what fits into one part."""

    def __init__(self, bucket: Bucket, key: str, name: str, attributes: Mapping[str, Any]) -> None:
        """Makes nothing yet.

        Args:
            bucket: where to.
            key: of the object.
            name: of the snapshot, for messages.
            attributes: of the object, as S3's API names them.
        """
        self._bucket = bucket
        self._key = key
        self._doing = f"upload {name}"
        self._attributes = attributes
        self._part = BytesIO()
        self._number = 1
        self._size = 0
        self._id: str | None = None
        self._pool = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="s3-upload")
        self._flying: deque[Future[_Part]] = deque()
        self._sent: list[_Part] = []

    def write(self, data: bytes) -> None:
        """The next bytes; waits while two parts are on their way. Raises StoreError."""
        rest = memoryview(data)
        while rest:
            room = part_size(self._number) - self._part.tell()
            if not room:
                self._send_part()
                continue
            self._part.write(rest[:room])
            self._size += len(rest[:room])
            rest = rest[room:]

    def finish(self) -> Written:
        """The object is there once this has returned. Raises StoreError."""
        if self._id is None:
            checksum = put(self._bucket, self._key, self._doing, self._part, self._attributes)
            return Written(self._size, checksum, at_once=True)
        self._send_part()
        self._land(0)
        digests = b"".join(part.digest for part in self._sent)
        written = Written(self._size, _base64(hashlib.sha256(digests).digest()), at_once=False)
        try:
            self._bucket.send(
                "complete_multipart_upload",
                self._doing,
                Key=self._key,
                UploadId=self._id,
                MultipartUpload={"Parts": [part.named for part in self._sent]},
            )
        except S3Error as error:
            # When the answer to the first try was lost, the second one finds no upload, but the object.
            if error.code != "NoSuchUpload" or not is_stored(self._bucket, self._key, self._doing, written):
                raise
        return written

    def abort(self) -> None:
        """Takes back what was sent, if the service is there to be told; `clean` does it otherwise."""
        self._pool.shutdown(cancel_futures=True)
        if self._id is not None:
            with contextlib.suppress(StoreError):
                self._bucket.impatient().send("abort_multipart_upload", self._doing, Key=self._key, UploadId=self._id)

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()

    def _send_part(self) -> None:
        if self._id is None:
            answer = self._bucket.send(
                "create_multipart_upload",
                self._doing,
                Key=self._key,
                ChecksumAlgorithm="SHA256",
                **self._attributes,
            )
            self._id = str(answer["UploadId"])
        self._land(_IN_FLIGHT - 1)
        self._flying.append(self._pool.submit(self._upload, self._id, self._number, self._part))
        self._number += 1
        self._part = BytesIO()

    def _land(self, flying: int) -> None:
        """Waits until no more parts than this are on their way. Raises the StoreError of one that failed."""
        while len(self._flying) > flying:
            self._sent.append(self._flying.popleft().result())

    def _upload(self, upload: str, number: int, body: BytesIO) -> _Part:
        digest = _digest(body)
        answer = self._bucket.send(
            "upload_part",
            f"{self._doing} (part {number})",
            Key=self._key,
            UploadId=upload,
            PartNumber=number,
            Body=body,
            ChecksumSHA256=_base64(digest),
        )
        return _Part(number, str(answer["ETag"]), digest)


def put(bucket: Bucket, key: str, doing: str, body: BytesIO, attributes: Mapping[str, Any]) -> str:
    """Sends an object at once and returns its checksum, SHA-256 in base64. Raises StoreError."""
    checksum = _base64(_digest(body))
    bucket.send("put_object", doing, Key=key, Body=body, ChecksumSHA256=checksum, **attributes)
    return checksum


def is_stored(bucket: Bucket, key: str, doing: str, written: Written) -> bool | None:
    """Whether the service states the checksum of what was written; None when it states none. Raises StoreError."""
    try:
        head = bucket.send("head_object", doing, Key=key, ChecksumMode="ENABLED")
    except S3Error as error:
        if error.status == 404:
            return False
        raise
    if head["ContentLength"] != written.size:
        return False
    stated = head.get("ChecksumSHA256")
    # The number of parts may follow a dash.
    return None if stated is None else stated.split("-")[0] == written.checksum


def _digest(body: BytesIO) -> bytes:
    """SHA-256 of it all, which is to be sent next.

    It stays a file: bytes would be sent in one go, within CONNECT_TIMEOUT, and a slow line cannot do that.
    """
    body.seek(0)
    with body.getbuffer() as view:
        return hashlib.sha256(view).digest()


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
