# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest beside a snapshot, ``<name>.json``: what the archive does not tell, its values being encrypted."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from ..files import damaged, parse_json, read_json, write_json
from ..user import user_name
from ..vault.versions import numbers
from .archive import SnapshotInfo, verify_file
from .errors import SnapshotMismatchError

FORMAT = 1
LONGEST = 1024 * 1024
"""Bytes of a manifest that is read; one of 256 key counts with the longest names has 50,000."""
_LONGEST_TEXT = 4096
"""Characters of a name or version. Python converts no number of more than 4300 digits."""
_DEEPEST = 8
"""Levels of a value that a later format may have."""


@dataclass(frozen=True)
class Origin:
    """The cluster that a snapshot was taken of, None where it was not told.

    Vault does not tell the id of the key of its seal: seal_key_id is the operator's word.
    """

    cluster_name: str | None = None
    cluster_id: str | None = None
    vault_version: str | None = None
    seal_type: str | None = None
    node: str | None = None
    seal_key_id: str | None = None


def manifest_path(snapshot: Path) -> Path:
    """Where the manifest of this snapshot lies."""
    return snapshot.with_name(snapshot.name + ".json")


def taken_by() -> dict[str, str]:
    """The host and user of this process."""
    return {"host": platform.node(), "user": user_name()}


def build_manifest(
    name: str, info: SnapshotInfo, origin: Origin, taken_at: datetime, flagged: str | None = None
) -> dict[str, Any]:
    """The manifest of a verified snapshot. `flagged` says why it is not to be trusted although it is intact."""
    return {
        "format": FORMAT,
        "name": name,
        "taken_at": taken_at.astimezone(timezone.utc).isoformat(timespec="seconds"),
        "taken_by": taken_by(),
        "cluster_name": origin.cluster_name,
        "cluster_id": origin.cluster_id,
        "vault_version": origin.vault_version,
        "seal_type": origin.seal_type,
        "seal_key_id": origin.seal_key_id,
        "node": origin.node,
        "index": info.index,
        "term": info.term,
        "size": info.size,
        "sha256": info.sha256,
        "key_counts": info.key_counts,
        "flagged": flagged,
    }


def write_manifest(snapshot: Path, info: SnapshotInfo, origin: Origin, taken_at: datetime) -> dict[str, Any]:
    """Writes the manifest of a verified snapshot and returns it. Raises StoreError."""
    manifest = build_manifest(snapshot.name, info, origin, taken_at)
    write_json(manifest_path(snapshot), manifest)
    return manifest


def known_seal_type(manifest: Mapping[str, Any]) -> str | None:
    """Return the seal type of a snapshot's origin, None if the manifest does not give it reliably.

    Vault up to 1.14 and OpenBao up to 2.3 answer ``shamir`` for every auto-unseal (`vault.health.seal_type`), and
    the first releases of this collection wrote that into the manifest.
    """
    kind = manifest.get("seal_type")
    version = numbers(manifest.get("vault_version"))
    doubtful = version < (1, 15) or (2, 0) <= version < (2, 4)
    return None if kind == "shamir" and version and doubtful else kind


def retire_manifest(snapshot: Path, successor: IO[bytes]) -> None:
    """Removes the manifest of the snapshot whose name another one is about to take, once that one is on disk.

    A run that is killed before the new manifest is written must not leave the old one beside it. On a full disk the
    old snapshot stays, and so does its manifest.

    Raises OSError.
    """
    successor.flush()
    os.fsync(successor.fileno())
    with suppress(IsADirectoryError):
        manifest_path(snapshot).unlink(missing_ok=True)


def read_manifest(snapshot: Path) -> dict[str, Any] | None:
    """The manifest beside a snapshot, None when it has none. Raises StoreError when it is damaged."""
    path = manifest_path(snapshot)
    try:
        return check_fields(read_json(path, LONGEST), path)
    except FileNotFoundError:
        return None


def parse_manifest(data: bytes, where: str) -> dict[str, Any]:
    """Return the manifest that these bytes of a store are. Raises StoreError when it is damaged."""
    if len(data) > LONGEST:
        raise damaged(where, f"it has more than {LONGEST} bytes")
    return check_fields(parse_json(data, where), where)


def check_fields(manifest: dict[str, Any], where: str | Path) -> dict[str, Any]:
    """Return the manifest if each field that `build_manifest` writes has its type, or is null or missing.

    Raises:
        StoreError: it is damaged; the message has the field and its value.
    """
    for name, (is_valid, expected) in _FIELDS.items():
        value = manifest.get(name)
        if value is not None and not is_valid(value):
            raise damaged(where, f"its {name} is {_shown(value)}, not {expected}")
    if not _is_shallow(manifest, _DEEPEST):
        raise damaged(where, "it is nested too deeply")
    try:
        json.dumps(manifest, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise damaged(where, f"it has a value that JSON or UTF-8 does not have: {error}") from error
    return manifest


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_TEXT and value.isprintable()


def _is_number(value: object) -> bool:
    # Raft's are of 64 bits, and true is an int.
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64


def _is_time(value: object) -> bool:
    try:
        # Python 3.9 does not know the Z.
        when = datetime.fromisoformat(value.replace("Z", "+00:00")) if isinstance(value, str) else None
        return when is not None and when.tzinfo is not None and bool(when.astimezone(timezone.utc))
    except (ValueError, OverflowError):
        return False


def _is_taken_by(value: object) -> bool:
    return isinstance(value, dict) and all(_is_text(one) for one in value.values())


def _is_counts(value: object) -> bool:
    return isinstance(value, dict) and all(_is_number(one) for one in value.values())


def _is_shallow(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_shallow(one, levels - 1) for one in inner)


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


_TEXT = (_is_text, f"a line of at most {_LONGEST_TEXT} characters")
_NUMBER = (_is_number, "a whole number of 64 bits")
_FIELDS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    **dict.fromkeys(("format", "index", "term", "size"), _NUMBER),
    **dict.fromkeys(("name", "cluster_name", "cluster_id", "vault_version", "seal_type", "seal_key_id"), _TEXT),
    **dict.fromkeys(("node", "sha256"), _TEXT),
    "taken_at": (_is_time, "a time in ISO 8601 with its time zone"),
    "taken_by": (_is_taken_by, "an object of texts"),
    "key_counts": (_is_counts, "an object of whole numbers"),
    "flagged": (lambda value: isinstance(value, str), "a text"),
    "escrow_of": (lambda value: isinstance(value, dict), "an object"),
}


def check_manifest(snapshot: Path, info: SnapshotInfo, manifest: Mapping[str, Any] | None) -> None:
    """Raises SnapshotMismatchError when the manifest was written for other bytes than these."""
    if manifest is not None and manifest.get("sha256") != info.sha256:
        raise SnapshotMismatchError(
            f"{snapshot} is an intact snapshot, but not the one that {manifest_path(snapshot).name} describes "
            f"(sha256 {info.sha256}, index {info.index}; expected {manifest.get('sha256')}, index "
            f"{manifest.get('index')}). One of them was replaced: restore the right pair, or remove the manifest if "
            "you trust the file."
        )


def verify(snapshot: str | Path) -> SnapshotInfo:
    """The file's facts. Raises SnapshotError when it is damaged or is not what its manifest says, OSError."""
    path = Path(snapshot)
    info = verify_file(path)
    check_manifest(path, info, read_manifest(path))
    return info
