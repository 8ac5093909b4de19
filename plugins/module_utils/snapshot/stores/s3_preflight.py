# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bucket lacks to be the place of the last copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .s3_client import Bucket, S3Error

Answer = Mapping[str, Any]


def _versioning(answer: Answer, options: Mapping[str, Any]) -> Iterator[str]:  # noqa: ARG001 - as its siblings
    if answer.get("Status") != "Enabled":
        yield "versioning is not enabled: whoever may write can destroy every snapshot by overwriting it. Enable it."


def _lock(answer: Answer, options: Mapping[str, Any]) -> Iterator[str]:
    if answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled":
        return
    asked = options.get("object_lock_mode")
    yield "object lock is not enabled: whoever may delete can destroy every snapshot." + (
        f" object_lock_mode {asked} will be refused until it is." if asked else ""
    )


def _encryption(answer: Answer, options: Mapping[str, Any]) -> Iterator[str]:  # noqa: ARG001
    if not answer.get("ServerSideEncryptionConfiguration", {}).get("Rules"):
        yield "it has no default encryption: what else is put there is not encrypted. Set one, best with a KMS key."


def _public(answer: Answer, options: Mapping[str, Any]) -> Iterator[str]:  # noqa: ARG001
    block = answer.get("PublicAccessBlockConfiguration", {})
    names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    missing = [name for name in names if not block.get(name)]
    if missing:
        yield f"public access is not blocked ({', '.join(missing)} is off): one policy could publish it. Block it."


def _region(answer: Answer, options: Mapping[str, Any]) -> Iterator[str]:
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = answer.get("BucketRegion") or headers.get("x-amz-bucket-region")
    if region is None:
        return
    if options.get("region") and region != options["region"]:
        yield f"it lies in {region}, not in {options['region']} as region says. Correct region."
    if region == options.get("vault_region"):
        yield f"it lies in {region}, as Vault does: one outage takes both. Add a destination in another region."


_QUESTIONS: dict[str, tuple[str, str, Callable[[Answer, Mapping[str, Any]], Iterator[str]]]] = {
    "head_bucket": ("its region", "", _region),
    "get_bucket_versioning": ("versioning", "", _versioning),
    "get_object_lock_configuration": ("object lock", "ObjectLockConfigurationNotFoundError", _lock),
    "get_bucket_encryption": ("default encryption", "ServerSideEncryptionConfigurationNotFoundError", _encryption),
    "get_public_access_block": ("public access", "NoSuchPublicAccessBlockConfiguration", _public),
}
"""Of each request: what it asks for, the error that says that there is none, and what the answer means."""


def shortcomings(bucket: Bucket) -> list[str]:
    """A sentence for each thing that the bucket lacks, or that these credentials may not ask for.

    Raises StoreError when the bucket does not exist or cannot be reached.
    """
    found = []
    for operation, (what, none, judge) in _QUESTIONS.items():
        answer: Answer
        try:
            answer = bucket.send(operation, f"look at {what}")
        except S3Error as error:
            if error.code == "NoSuchBucket" or (error.status >= 500 and error.status != 501):
                raise
            if error.code != none:
                found.append(f"{bucket.label}: could not look at {what}: {error.status} {error.code}.")
                continue
            answer = {}
        found += [f"{bucket.label}: {sentence}" for sentence in judge(answer, bucket.options)]
    return found
