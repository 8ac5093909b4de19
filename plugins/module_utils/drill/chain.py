# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of drills that nobody changes unnoticed: each carries its own hash and that of the one before.

Whoever can write the folder can write the whole chain anew. That shows against a hash noted elsewhere (`head`),
such as in the ticket of a drill, or by signatures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ..files import StoreError, read_json
from .errors import DrillError

OUTSIDE = ("sha256", "signature")
"""Fields that the hash does not cover."""

Record = Mapping[str, Any]


def canonical(record: Record) -> bytes:
    """What is hashed: JSON with sorted keys and no space between, in UTF-8, without OUTSIDE.

    Raises DrillError for what JSON has no one form of.
    """
    covered = {name: value for name, value in record.items() if name not in OUTSIDE}
    try:
        text = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (ValueError, TypeError) as error:
        raise DrillError(f"The record of a drill has a value that JSON does not take: {error}.") from error


def digest(record: Record) -> str:
    """SHA-256, hexadecimal. Raises DrillError."""
    return hashlib.sha256(canonical(record)).hexdigest()


def sealed(record: Record, before: Optional[tuple[str, Record]]) -> dict[str, Any]:
    """The record with the hash of the one before, and its own.

    Args:
        before: name of the file and content of the newest one that there is; None for the first.

    Raises DrillError.
    """
    previous = None if before is None else {"file": before[0], "sha256": before[1]["sha256"]}
    whole = {**record, "previous": previous}
    return {**whole, "sha256": digest(whole)}


def problems(records: Sequence[tuple[str, Record]], head: Optional[str] = None) -> list[str]:
    """What was changed, removed, added or put into another order, a sentence each; empty when nothing was.

    Args:
        records: name of the file and content, the oldest first.
        head: the hash of one of them that was noted elsewhere; without it nobody sees that the newest were removed.
    """
    told = []
    before: Optional[tuple[str, Record]] = None
    for name, record in records:
        told += _of_one(name, record, before)
        before = (name, record)
    if head and head not in [record.get("sha256") for _name, record in records]:
        told.append(f"No record has the hash {head}: the newest was removed, or all were written anew.")
    return told


def _of_one(name: str, record: Record, before: Optional[tuple[str, Record]]) -> list[str]:
    told = []
    try:
        if record.get("sha256") != digest(record):
            told.append(f"{name} was changed after it was written: its hash is another.")
    except DrillError as error:
        told.append(f"{name}: {error}")
    previous = record.get("previous")
    wanted = None if before is None else {"file": before[0], "sha256": before[1].get("sha256")}
    if previous == wanted:
        return told
    if wanted is None:
        told.append(f"{name} is the oldest here and follows {_named(previous)}, which is gone.")
    elif not isinstance(previous, Mapping):
        told.append(f"{name} says that none is before it, and {wanted['file']} is.")
    elif previous.get("file") == wanted["file"]:
        told.append(f"{name} follows another content of {wanted['file']} than there is.")
    else:
        told.append(f"{name} follows {_named(previous)}, and before it is {wanted['file']}: removed, added or renamed.")
    return told


def _named(previous: Any) -> str:
    return str(previous.get("file")) if isinstance(previous, Mapping) else repr(previous)


def read(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """The finished records of a folder, the oldest first; their names begin with the time.

    Raises DrillError when one cannot be read.
    """
    try:
        names = sorted(path.name for path in folder.glob("drill-*.json"))
        return [(name, read_json(folder / name)) for name in names]
    except (StoreError, OSError) as error:
        raise DrillError(f"Cannot read the records of drills in {folder}: {error}") from error
