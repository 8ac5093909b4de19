# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One bucket of S3, or of a service that speaks its API: every request ends, every error says what to do."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from ...files import StoreError

CONNECT_TIMEOUT = 5
"""Seconds. A body that makes no headway for so long has failed as well: urllib3 sends it under this limit."""

TIMEOUT = 60
RETRIES = 3

_ADVICE = {
    "NoSuchBucket": "Create the bucket, or correct bucket, region or endpoint_url.",
    "NoSuchKey": "List what this store holds, and name one of that.",
    "AccessDenied": "Give these credentials the rights that docs/snapshot-stores.md lists, for the KMS key as well.",
    "RequestTimeTooSkewed": "Set this host's clock.",
    "InvalidObjectState": "It lies in an archive: restore it there first, or use another copy.",
    "InvalidStorageClass": "Correct storage_class.",
    "NotImplemented": "Turn off what this service does not have, such as server_side_encryption aws:kms.",
    "PermanentRedirect": "Correct region.",
    "AuthorizationHeaderMalformed": "Correct region.",
    "IllegalLocationConstraintException": "Correct region.",
}
_CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidToken",
    "TokenRefreshRequired",
}
_SAME = {"403": "AccessDenied", "Forbidden": "AccessDenied", "404": "NoSuchKey", "301": "PermanentRedirect"}
"""What an answer without a body, to HEAD, is called when it has one."""


class S3Error(StoreError):
    """The service answered with an error.

    Attributes:
        code: S3's name for it, ``NoSuchKey``.
        status: of HTTP.
    """

    def __init__(self, message: str, code: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


def label_of(options: Mapping[str, Any]) -> str:
    """``s3://bucket/prefix``."""
    return f"s3://{options['bucket']}/{str(options.get('prefix') or '').strip('/')}".rstrip("/")


def make_client(options: Mapping[str, Any], timeout: int, retries: int) -> Any:
    """A client of botocore's; nothing is sent yet.

    Credentials come from the options, else from the environment, the profile or the host, in AWS's usual order. What
    else the environment says does not count: no AWS_ENDPOINT_URL and no proxy sends a snapshot where nobody expects it.

    Args:
        timeout: seconds that an answer may take.
        retries: how often a request is sent again, after up to 1, 2, 4, ... seconds.

    Raises:
        StoreError: botocore is not installed, or an option is impossible.
    """
    label = label_of(options)
    try:
        from botocore.config import Config  # noqa: PLC0415 - a folder needs none of it
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
        from botocore.session import Session  # noqa: PLC0415
    except ImportError as error:
        raise StoreError(
            f"Cannot use {label}: {sys.executable} has no boto3 ({error}). Install it: {sys.executable} -m pip install "
            "boto3."
        ) from error
    ca_cert = options.get("ca_cert")
    if ca_cert and not os.access(ca_cert, os.R_OK):
        raise StoreError(f"Cannot use {label}: its ca_cert {ca_cert} cannot be read. Correct the path or its mode.")
    config = Config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=timeout,
        retries={"mode": "standard", "total_max_attempts": retries + 1},
        proxies=dict(options.get("proxies") or {}),
        ignore_configured_endpoint_urls=True,
        # Ours are SHA-256, made once. What is read back is hashed by who reads it.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={
            "addressing_style": options.get("addressing_style") or "auto",
            # The signature covers the checksum, and that the body: under TLS no second SHA-256 is made for it.
            "payload_signing_enabled": str(options.get("endpoint_url") or "").startswith("http://"),
        },
        user_agent_extra="custodes.security_dr",
    )
    try:
        session = Session(profile=options.get("profile"))
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=timestamp)
        return session.create_client(
            "s3",
            region_name=options.get("region"),
            endpoint_url=options.get("endpoint_url"),
            verify=ca_cert,
            aws_access_key_id=options.get("access_key"),
            aws_secret_access_key=options.get("secret_key"),
            aws_session_token=options.get("session_token"),
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise StoreError(f"Cannot use {label}: {error}. Correct the options of this destination.") from error


def timestamp(value: Any) -> datetime:
    """Return the time of an answer, in UTC; that of a listing without dateutil, which takes half of a long listing.

    Raises ValueError for what is no time.
    """
    from botocore.utils import parse_timestamp  # noqa: PLC0415 - as above

    # ISO 8601 with Z, as in S3's XML. Before Python 3.11, fromisoformat knows no Z.
    if isinstance(value, str) and value.endswith("Z"):
        with suppress(ValueError):
            return datetime.fromisoformat(f"{value[:-1]}+00:00")
    parsed: datetime = parse_timestamp(value)
    return parsed


class Bucket:
    """Sends requests, each of which ends in an answer or a StoreError.

    Attributes:
        options: of the destination.
        label: ``s3://bucket/prefix``.
        prefix: what the keys start with, ending in a slash unless it is empty.
    """

    def __init__(self, options: Mapping[str, Any], client: Any = None) -> None:
        self.options = options
        self.label = label_of(options)
        self.name: str = options["bucket"]
        prefix = str(options.get("prefix") or "").strip("/")
        self.prefix = f"{prefix}/" if prefix else ""
        timeout, retries = options.get("timeout"), options.get("retries")
        self._client = client or make_client(
            options, TIMEOUT if timeout is None else timeout, RETRIES if retries is None else retries
        )

    def impatient(self) -> Bucket:
        """The same one, for what is only worth one short try."""
        return Bucket(self.options, make_client(self.options, timeout=10, retries=0))

    def send(self, operation: str, doing: str, **arguments: Any) -> dict[str, Any]:
        """Sends one request, again where that can help.

        Args:
            operation: as botocore's method is called, ``upload_part``.
            doing: what for, so that it can follow "Cannot": ``upload vault-20261124T053000Z.snap``.

        Raises:
            S3Error: the answer was an error.
            StoreError: there was none.
        """
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        try:
            answer: dict[str, Any] = getattr(self._client, operation)(Bucket=self.name, **arguments)
        except (ClientError, BotoCoreError) as error:
            raise self._explain(error, doing, operation) from error
        return answer

    def pages(self, operation: str, doing: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Every page of an answer that comes in pages. Raises as `send` does."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        try:
            yield from self._client.get_paginator(operation).paginate(Bucket=self.name, **arguments)
        except (ClientError, BotoCoreError) as error:
            raise self._explain(error, doing, operation) from error

    def chunks(self, body: Any, doing: str, size: int) -> Iterator[bytes]:
        """What follows an answer, streamed. Raises StoreError when it ends too early."""
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415

        try:
            yield from body.iter_chunks(size)
        except BotoCoreError as error:
            raise self._explain(error, doing, "get_object") from error

    def _explain(self, error: Any, doing: str, operation: str) -> StoreError:
        endpoint = str(self._client.meta.endpoint_url)
        proxy = (self.options.get("proxies") or {}).get(endpoint.partition(":")[0], "")
        through = f" through the proxy {proxy.rpartition('@')[2]}" if proxy else ""
        where = f"in {self.label} at {endpoint}{through}"
        request = self._client.meta.method_to_api_mapping[operation]
        if not isinstance(getattr(error, "response", None), dict):
            said = str(error).rstrip(".")
            return StoreError(f"Cannot {doing} {where}: {request} got no answer: {said}. {_silence(error)}")
        answer, meta = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
        code, status = str(answer.get("Code") or "?"), int(meta.get("HTTPStatusCode") or 0)
        code = "NoSuchBucket" if (operation, code) == ("head_bucket", "404") else _SAME.get(code, code)
        tries = f" (tried {meta['RetryAttempts'] + 1} times)" if meta.get("RetryAttempts") else ""
        message = f"{status} {code}: {str(answer.get('Message') or 'no reason given').rstrip('.')}"
        return S3Error(
            f"Cannot {doing} {where}: {request} was answered {message}{tries}. {_advice(code, status, message)}",
            code,
            status,
        )


def _advice(code: str, status: int, message: str) -> str:
    if code in _CREDENTIALS:
        return "Check the credentials, whether they have expired, and this host's clock."
    if code.startswith("KMS"):
        return "Check that the KMS key is enabled, in the bucket's region, and may be used with these credentials."
    if (status >= 500 and status != 501) or code in (
        "SlowDown",
        "Throttling",
        "RequestLimitExceeded",
        "TooManyRequests",
    ):
        return "The service is overloaded or broken: run this again later, and ask who runs it."
    if "object lock" in message.lower() or "worm" in message.lower():
        return (
            "Object lock holds it: wait until its time is over, and let the retention be longer than object_lock_days."
        )
    return _ADVICE.get(code, "Check the options of this destination against the bucket.")


def _silence(error: Exception) -> str:
    name = type(error).__name__
    if "Credential" in name or "Token" in name or "SSO" in name:
        return "Give access_key and secret_key, a profile, AWS_ACCESS_KEY_ID, or this host a role."
    if "SSL" in name:
        return "Give the authority of this endpoint as ca_cert."
    if "Proxy" in name:
        return "Correct proxies of this destination, or leave it out. Then run this again."
    if "Param" in name:
        return "Correct the options of this destination."
    return "Check endpoint_url, region, network and firewall, then run this again."
