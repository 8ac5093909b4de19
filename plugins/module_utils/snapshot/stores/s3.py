# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots in a bucket of S3, or of a service that speaks its API."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from io import BytesIO
from typing import Any
from urllib.parse import quote, urlencode

from ...files import StoreError
from ..library import taken_at
from ..manifest import LONGEST, parse_manifest
from .base import MANIFEST_SUFFIX, Stored, check_name, is_name, newest_first
from .s3_client import Bucket, S3Error
from .s3_preflight import shortcomings
from .s3_upload import Upload, Written, is_stored, put

_CHUNK = 1024 * 1024


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


class S3Store:
    """A bucket, or a prefix of one."""

    def __init__(self, options: Mapping[str, Any], client: Any = None, now: Callable[[], datetime] = _utc_now) -> None:
        """Opens it; nothing is sent yet.

        Args:
            options: of the destination, as `open_store` has checked them.
            client: botocore's, for tests.
            now: the time, UTC.

        Raises:
            StoreError: botocore is not installed, or an option is impossible.
        """
        self._options = options
        self._bucket = Bucket(options, client)
        self._now = now
        self._written: dict[str, Written] = {}
        self.label = self._bucket.label

    @contextmanager
    def writer(self, name: str) -> Iterator[Upload]:
        key = self._key(name)
        # Of the keys that start so, it is the first.
        found = self._bucket.send("list_objects_v2", f"upload {name}", Prefix=key, MaxKeys=1)
        if any(entry["Key"] == key for entry in found.get("Contents", ())):
            raise StoreError(
                f"{self.label}/{name} exists already and is not overwritten. Look at this host's clock, run this again."
            )
        attributes = {"ContentType": "application/gzip", **self._attributes()}
        if self._options.get("storage_class"):
            attributes["StorageClass"] = self._options["storage_class"]
        upload = Upload(self._bucket, key, name, attributes)
        try:
            yield upload
            self._written[name] = upload.finish()
        except BaseException:
            upload.abort()
            raise
        upload.close()

    def listing(self) -> list[Stored]:
        found: dict[str, Any] = {}
        for page in self._bucket.pages(
            "list_objects_v2", "list the snapshots", Prefix=self._bucket.prefix, Delimiter="/"
        ):
            for entry in page.get("Contents", ()):
                found[entry["Key"][len(self._bucket.prefix) :]] = entry
        return newest_first(
            Stored(
                name,
                taken_at(name, entry["LastModified"].timestamp()),
                entry["Size"],
                name + MANIFEST_SUFFIX in found,
            )
            for name, entry in found.items()
            if is_name(name)
        )

    @contextmanager
    def reader(self, name: str) -> Iterator[Iterator[bytes]]:
        doing = f"read {name}"
        body = self._bucket.send("get_object", doing, Key=self._key(name))["Body"]
        try:
            yield self._bucket.chunks(body, doing, _CHUNK)
        finally:
            body.close()

    def checksum_matches(self, name: str, sha256: str) -> bool | None:
        """As every store does; None as well for what another process has written."""
        written = self._written.get(name)
        if written is None:
            return None
        if written.at_once and written.checksum != base64.b64encode(bytes.fromhex(sha256)).decode():
            return False
        return is_stored(self._bucket, self._key(name), f"ask for the checksum of {name}", written)

    def write_manifest(self, name: str, manifest: Mapping[str, Any]) -> None:
        data = (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()
        # In the standard class, whatever the snapshot's: it is small and read often. Locked as long: without it, the
        # snapshot counts as not verified.
        put(
            self._bucket,
            self._key(name) + MANIFEST_SUFFIX,
            f"write {name}{MANIFEST_SUFFIX}",
            BytesIO(data),
            {"ContentType": "application/json", **self._attributes()},
        )

    def read_manifest(self, name: str) -> dict[str, Any] | None:
        doing = f"read {name}{MANIFEST_SUFFIX}"
        try:
            body = self._bucket.send("get_object", doing, Key=self._key(name) + MANIFEST_SUFFIX)["Body"]
        except S3Error as error:
            if error.code == "NoSuchKey":
                return None
            raise
        data = bytearray()
        try:
            for chunk in self._bucket.chunks(body, doing, _CHUNK):
                data += chunk
                if len(data) > LONGEST:
                    break
        finally:
            body.close()
        return parse_manifest(bytes(data), f"{self.label}/{name}{MANIFEST_SUFFIX}")

    def delete(self, name: str) -> None:
        """As every store does. In a versioned bucket both stay behind a delete marker, until a lifecycle rule acts."""
        for suffix in (MANIFEST_SUFFIX, ""):
            self._bucket.send("delete_object", f"delete {name}{suffix}", Key=self._key(name) + suffix)

    def clean(self, older_than: timedelta) -> list[str]:
        doing = "look for unfinished uploads"
        limit = self._now() - older_than
        cleaned = []
        for page in self._bucket.pages("list_multipart_uploads", doing, Prefix=self._bucket.prefix):
            for upload in page.get("Uploads", ()):
                name = upload["Key"][len(self._bucket.prefix) :]
                if is_name(name) and upload["Initiated"] <= limit:
                    self._abort(name, upload["UploadId"])
                    cleaned.append(
                        f"unfinished upload of {self.label}/{name}, begun {upload['Initiated']:%Y-%m-%d %H:%M}Z"
                    )
        return cleaned

    def lacks(self) -> list[str]:
        return shortcomings(self._bucket)

    def _abort(self, name: str, upload: str) -> None:
        try:
            self._bucket.send(
                "abort_multipart_upload", f"remove the unfinished {name}", Key=self._key(name), UploadId=upload
            )
        except S3Error as error:
            if error.code != "NoSuchUpload":
                raise

    def _key(self, name: str) -> str:
        check_name(name)
        return self._bucket.prefix + name

    def _attributes(self) -> dict[str, Any]:
        """Of every object, as S3's API names them."""
        options = self._options
        attributes: dict[str, Any] = {}
        encryption = options.get("server_side_encryption") or "aws:kms"
        if encryption != "none":
            attributes["ServerSideEncryption"] = encryption
        if options.get("kms_key_id"):
            attributes["SSEKMSKeyId"] = options["kms_key_id"]
        if options.get("tags"):
            attributes["Tagging"] = urlencode(options["tags"], quote_via=quote)
        if options.get("object_lock_mode"):
            attributes["ObjectLockMode"] = options["object_lock_mode"]
            attributes["ObjectLockRetainUntilDate"] = self._now() + timedelta(days=options["object_lock_days"])
        return attributes
