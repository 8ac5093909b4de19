# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A snapshot in a file, as the modules describe it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from ..files import StoreError, explain
from .archive import SnapshotInfo
from .errors import SnapshotError
from .library import newest_verified, taken_at
from .manifest import read_manifest, verify


def describe(path: Path) -> dict[str, Any]:
    """Verifies one file. Raises StoreError when it is not there or cannot be read."""
    try:
        info = verify(path)
        when = taken_at(path.name, path.stat().st_mtime)
    except SnapshotError as error:
        return {"path": str(path), "verified": False, "problem": str(error)}
    except OSError as error:
        raise StoreError(f"Cannot read the snapshot {path}: {explain(error)}. Check the path and its owner.") from error
    return _verified(path, info, when)


def describe_choice(path: Path, candidates: int, seal_type: str | None = None) -> dict[str, Any]:
    """Chooses the newest snapshot that verifies.

    Args:
        seal_type: of a folder, only those count whose manifest has it.

    What a backup has flagged counts only where it is named itself.

    Raises:
        SnapshotError: there is none.
    """

    flagged: list[tuple[Path, str]] = []

    def wanted(file: Path) -> bool:
        try:
            manifest = read_manifest(file) or {}
        except StoreError:
            return seal_type is None
        if manifest.get("flagged"):
            flagged.append((file, f"{file} is flagged: {manifest['flagged']}. Name it to use it all the same."))
            return False
        return seal_type in (None, manifest.get("seal_type"))

    choice = newest_verified(str(path), candidates, verify, wanted)
    newer = [(str(file), why) for file, why in flagged if taken_at(file.name, file.stat().st_mtime) > choice.taken_at]
    rejected = [{"path": name, "problem": problem} for name, problem in [*newer, *choice.rejected]]
    return {**_verified(Path(choice.path), choice.info, choice.taken_at), "rejected": rejected}


def _verified(path: Path, info: SnapshotInfo, when: datetime) -> dict[str, Any]:
    facts = info.to_dict()
    manifest = read_manifest(path)
    return {
        "path": str(path),
        "verified": True,
        "problem": None,
        "taken_at": (manifest or {}).get("taken_at") or when.isoformat(timespec="seconds"),
        "manifest": manifest,
        **{name: facts[name] for name in ("index", "term", "size", "state_size", "sha256", "key_counts")},
    }
