# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches a snapshot from the stores into a file: the newest good copy that verifies, and says which did not."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from ..files import StoreError, explain, new_file, write_json
from .archive import SnapshotInfo, SnapshotReader, verify_file
from .catalogue import Copy, newest_first, survey
from .errors import SnapshotError
from .library import SUFFIX
from .manifest import manifest_path, retire_manifest
from .stores.base import Store

LATEST = "latest"


class _RejectedError(Exception):
    """This copy is not to be used; another may be."""


class _CannotWriteError(Exception):
    """The file cannot be written, whichever copy is read."""


@dataclass
class Fetched:
    """What was chosen.

    Attributes:
        copy: in the store that it was, or in check mode would be, fetched from.
        path: the file.
        manifest: as it lies in the store; None where there is none.
        info: None in check mode.
        changed: whether the file was, or would be, written.
        rejected: copies that were passed over, with ``name``, ``store`` and ``problem``.
        unreachable: stores that could not be read, with ``store`` and ``problem``.
        warnings: why the one that was asked for by its name would not have been chosen.
    """

    copy: Copy
    path: Path
    manifest: dict[str, Any] | None
    info: SnapshotInfo | None = None
    changed: bool = True
    rejected: list[dict[str, str]] = field(default_factory=list)
    unreachable: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a module's result."""
        facts = self.info.to_dict() if self.info else {}
        return {
            "changed": self.changed,
            "path": str(self.path),
            "name": self.copy.entry.name,
            "store": self.copy.store.label,
            "taken_at": self.copy.entry.taken_at.isoformat(timespec="seconds"),
            "verified": self.info is not None,
            "manifest": self.manifest,
            "rejected": self.rejected,
            "unreachable": self.unreachable,
            **{name: facts[name] for name in ("size", "sha256", "index", "key_counts") if facts},
        }


def fetch(
    stores: Sequence[Store], name: str, dest: Path, candidates: int, now: datetime, check: bool = False
) -> Fetched:
    """Writes a snapshot that was verified as it came to `dest`, mode 0600, with its manifest beside it.

    Args:
        name: ``latest``; a snapshot's name; or a time in ISO 8601, for the newest that is not younger.
        dest: file to replace, or a folder in which it keeps its name.
        candidates: how many snapshots may be tried, of which each may have a copy in several stores. By its name only
            that one is.
        check: chooses without fetching.

    Raises:
        SnapshotError: nothing that was tried can be used; the message lists each copy and why.
        StoreError: no store can be read, or the file cannot be written.
    """
    copies, unreachable = survey(stores)
    named = name.endswith(SUFFIX)
    chosen = _choose(copies, name, now)
    rejected: list[dict[str, str]] = []
    tried: set[str] = set()
    for copy in chosen:
        if copy.entry.name not in tried and len(tried) >= max(candidates, 1):
            break
        try:
            manifest = copy.manifest()
            flagged = (manifest or {}).get("flagged")
            if flagged and not named:
                # Not one of those that were tried: a row of them may lie before the last good one.
                rejected.append(_reject(copy, f"it is flagged: {flagged}"))
                continue
            tried.add(copy.entry.name)
            path = dest / copy.entry.name if dest.is_dir() else dest
            fetched = Fetched(copy, path, manifest, rejected=rejected, unreachable=unreachable)
            fetched.warnings = _doubts(copy, manifest)
            _obtain(fetched, check)
            return fetched
        except (StoreError, _RejectedError) as error:
            tried.add(copy.entry.name)
            rejected.append(_reject(copy, str(error)))
        except _CannotWriteError as error:
            raise StoreError(str(error)) from error
    raise SnapshotError(_nothing(name, copies, rejected, unreachable))


def _reject(copy: Copy, problem: str) -> dict[str, str]:
    return {"name": copy.entry.name, "store": copy.store.label, "problem": problem}


def _choose(copies: list[Copy], name: str, now: datetime) -> list[Copy]:
    if name == LATEST:
        return newest_first(copies, now)
    if name.endswith(SUFFIX):
        return sorted(
            (copy for copy in copies if copy.entry.name == name), key=lambda copy: not copy.entry.has_manifest
        )
    try:
        # Python 3.9 does not know the Z.
        until = datetime.fromisoformat(name[:-1] + "+00:00" if name.endswith("Z") else name)
    except ValueError:
        raise SnapshotError(
            f"'{name}' is neither '{LATEST}' nor a snapshot's name, which ends in {SUFFIX}, nor a time such as "
            "2026-11-24T05:30:00Z."
        ) from None
    until = until if until.tzinfo else until.replace(tzinfo=timezone.utc)
    return newest_first((copy for copy in copies if copy.entry.taken_at <= until), now)


def _doubts(copy: Copy, manifest: dict[str, Any] | None) -> list[str]:
    where = f"{copy.entry.name} in {copy.store.label}"
    if manifest is None:
        return [f"{where} has no manifest: it was never verified there, and nothing tells what cluster it is of."]
    if manifest.get("flagged"):
        return [f"{where} is flagged: {manifest['flagged']}. Restore it only if you know why."]
    return []


def _obtain(fetched: Fetched, check: bool) -> None:
    """Fetches the chosen copy unless the file is that already."""
    path, manifest = fetched.path, fetched.manifest
    if manifest is not None and path.is_file():
        with suppress(SnapshotError, OSError):
            info = verify_file(path)
            if info.sha256 == manifest.get("sha256"):
                fetched.info, fetched.changed = info, not manifest_path(path).is_file()
    if check or not fetched.changed:
        return
    if fetched.info is None:
        fetched.info = _download(fetched.copy, path, manifest)
    if manifest is not None:
        try:
            write_json(manifest_path(path), manifest)
        except StoreError as error:
            raise _CannotWriteError(f"{path} is there and verified, but its manifest is not: {error}") from error


def _download(copy: Copy, path: Path, manifest: dict[str, Any] | None) -> SnapshotInfo:
    try:
        with new_file(path) as file:
            info = _receive(copy, path, file)
            if manifest is not None and manifest.get("sha256") != info.sha256:
                raise _RejectedError(
                    f"it is an intact snapshot, but not the one that its manifest describes (sha256 {info.sha256}, "
                    f"expected {manifest.get('sha256')})"
                )
            retire_manifest(path, file)
    except StoreError as error:
        raise _CannotWriteError(str(error)) from error
    return info


def _receive(copy: Copy, path: Path, file: IO[bytes]) -> SnapshotInfo:
    reader = SnapshotReader()
    try:
        with copy.store.reader(copy.entry.name) as chunks:
            for chunk in chunks:
                reader.feed(chunk)
                try:
                    file.write(chunk)
                except OSError as error:
                    raise _CannotWriteError(
                        f"Cannot write {path}: {explain(error)}. Make room or choose another folder, then run "
                        "this again."
                    ) from error
        return reader.finish()
    except (StoreError, SnapshotError) as error:
        raise _RejectedError(str(error)) from error


def _nothing(name: str, copies: list[Copy], rejected: list[dict[str, str]], unreachable: list[dict[str, str]]) -> str:
    said = [f"{one['name']} in {one['store']}: {one['problem']}" for one in rejected]
    said += [f"{one['store']} could not be read: {one['problem']}" for one in unreachable]
    if not said:
        said.append("there is none")
    others = sorted({copy.entry.name for copy in copies} - {one["name"] for one in rejected}, reverse=True)
    advice = (
        f" Not tried: {', '.join(others[:5])}{' and more' if others[5:] else ''}; any can be asked for by its name."
    )
    return f"No snapshot for '{name}' can be used: {'; '.join(said)}.{advice if others else ''}"
