# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens the places that keep snapshots, as a destination's options describe them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ...files import StoreError
from .base import Store
from .filesystem import FilesystemStore
from .s3 import S3Store
from .s3_client import label_of

_OF_THE_BACKUP = {"type", "required", "retention"}
"""Options of a destination that its store does not need."""

_OPTIONS: dict[str, dict[str, type]] = {
    "filesystem": {"path": str},
    "s3": {
        "bucket": str,
        "prefix": str,
        "region": str,
        "vault_region": str,
        "endpoint_url": str,
        "addressing_style": str,
        "ca_cert": str,
        "proxies": dict,
        "timeout": int,
        "retries": int,
        "profile": str,
        "access_key": str,
        "secret_key": str,
        "session_token": str,
        "server_side_encryption": str,
        "kms_key_id": str,
        "storage_class": str,
        "tags": dict,
        "object_lock_mode": str,
        "object_lock_days": int,
    },
}
_NEEDED = {"filesystem": ("path",), "s3": ("bucket",)}
_CHOICES = {
    "addressing_style": ("auto", "path", "virtual"),
    "server_side_encryption": ("aws:kms", "AES256", "none"),
    "object_lock_mode": ("GOVERNANCE", "COMPLIANCE"),
}
_TOGETHER = (("access_key", "secret_key"), ("object_lock_mode", "object_lock_days"))


def open_store(options: Mapping[str, Any]) -> Store:
    """The store that a destination's options describe; nothing is asked or written yet.

    Args:
        options: ``type`` and that type's options; one that is None counts as not given.

    Raises:
        StoreError: an option is unknown, missing or impossible, the message names it; or boto3 is missing.
    """
    given = {name: value for name, value in options.items() if value is not None}
    kind = given.get("type")
    if kind not in _OPTIONS:
        raise StoreError(f"A destination's type is {' or '.join(sorted(_OPTIONS))}, not {kind!r}.")
    ours = {name: value for name, value in given.items() if name not in _OF_THE_BACKUP}
    _check_names(kind, ours)
    if kind == "s3":
        _check_s3(ours)
        return S3Store(ours)
    if not os.path.isabs(ours["path"]):
        raise StoreError(f"The destination {ours['path']} is no absolute path. Give one that starts with a slash.")
    return FilesystemStore(ours["path"])


def _check_names(kind: str, given: Mapping[str, Any]) -> None:
    known = _OPTIONS[kind]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise StoreError(f"A {kind} destination has no option {', '.join(unknown)}. It has {', '.join(known)}.")
    missing = [name for name in _NEEDED[kind] if not given.get(name)]
    if missing:
        raise StoreError(f"A {kind} destination needs {', '.join(missing)}.")
    for name, value in given.items():
        if not isinstance(value, known[name]) or isinstance(value, bool):
            raise StoreError(
                f"The option {name} of a {kind} destination is a {known[name].__name__}, not a {type(value).__name__}."
            )


def _check_s3(given: Mapping[str, Any]) -> None:
    where = f"The destination {label_of(given)}"
    for name, choices in _CHOICES.items():
        if given.get(name, choices[0]) not in choices:
            raise StoreError(f"{where} has {name} {given[name]!r}; it is {', '.join(choices[:-1])} or {choices[-1]}.")
    for pair in _TOGETHER:
        if len(set(pair) & set(given)) == 1:
            raise StoreError(f"{where} needs {' and '.join(pair)} together, or neither.")
    if "kms_key_id" in given and given.get("server_side_encryption", "aws:kms") != "aws:kms":
        raise StoreError(f"{where} has a kms_key_id, which only server_side_encryption aws:kms uses.")
    for name, least in (("object_lock_days", 1), ("timeout", 1), ("retries", 0)):
        if given.get(name, least) < least:
            raise StoreError(f"{where} has {name} {given[name]}; it is {least} or more.")
