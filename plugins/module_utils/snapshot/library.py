# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chooses a snapshot from files: the newest one that verifies."""

from __future__ import annotations

import contextlib
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from ..files import StoreError
from .archive import SnapshotInfo, verify_file
from .errors import SnapshotError

SUFFIX = ".snap"

_TIMESTAMP = re.compile(r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})T([0-9]{2}):?([0-9]{2}):?([0-9]{2})Z")


@dataclass(frozen=True)
class Choice:
    """The snapshot that was chosen.

    ``taken_at`` is UTC; ``rejected`` are the newer ones that did not verify, each with what is wrong with it.
    """

    path: str
    info: SnapshotInfo
    taken_at: datetime
    rejected: list[tuple[str, str]]


def newest_verified(
    path: str,
    candidates: int = 1,
    verify: Callable[[str], SnapshotInfo] = verify_file,
    wanted: Callable[[Path], bool] = lambda _file: True,
) -> Choice:
    """Return the newest snapshot under path that verifies.

    Args:
        path: a file, which is verified as it is, or a directory, of which the files ending in ``.snap`` count.
            Hidden and partial files do not.
        candidates: how many files of a directory, newest first, may be tried.
        wanted: which files of a directory count.

    Raises:
        SnapshotError: there is none, or none of those tried verifies; the message lists each and why.
    """
    found = _snapshots(Path(path))
    if not found:
        raise SnapshotError(
            f"There is no snapshot in {path}: no file there ends in {SUFFIX}. Name a snapshot or its folder."
        )
    if Path(path).is_dir():
        every, found = len(found), [(taken, file) for taken, file in found if wanted(file)]
        if not found:
            raise SnapshotError(
                f"None of the {every} snapshots in {path} is, by its manifest, unflagged and of the seal that is asked "
                "for. Name the folder of the escrow snapshots, or a file to use it all the same."
            )
    rejected: list[tuple[str, str]] = []
    for taken, file in found[: max(candidates, 1)]:
        try:
            info = verify(str(file))
        except (SnapshotError, StoreError) as exc:
            rejected.append((str(file), str(exc)))
        except OSError as exc:
            rejected.append((str(file), f"{file} cannot be read: {exc.strerror or exc}"))
        else:
            return Choice(str(file), info, taken, rejected)
    raise SnapshotError(_none_verified(path, rejected, len(found)))


def taken_at(name: str, mtime: float) -> datetime:
    """Return when a file was taken, in UTC: what its name says, else mtime (seconds since 1970).

    A name says it as ``2026-11-24T05:30:00Z`` or ``20261124T053000Z``. It beats mtime because copies lose that one.
    """
    match = _TIMESTAMP.search(name)
    if match:
        try:
            return datetime(*map(int, match.groups()), tzinfo=timezone.utc)  # type: ignore[misc,arg-type]
        except ValueError:
            pass  # Digits that are no date, such as a ticket number.
    return datetime.fromtimestamp(mtime, timezone.utc)


def _snapshots(path: Path) -> list[tuple[datetime, Path]]:
    """Return the snapshot files under path with their time, newest first."""
    try:
        if not path.is_dir():
            return [(taken_at(path.name, path.stat().st_mtime), path)]
        files = [file for file in path.iterdir() if file.name.endswith(SUFFIX) and not file.name.startswith(".")]
    except FileNotFoundError:
        raise SnapshotError(f"{path} does not exist. Name a snapshot or its folder.") from None
    except OSError as exc:
        raise SnapshotError(f"{path} cannot be read: {exc.strerror or exc}. Check its owner and mode.") from None
    found = []
    for file in files:
        # Retention may delete one between the listing and here.
        with contextlib.suppress(FileNotFoundError):
            status = file.stat()
            if stat.S_ISREG(status.st_mode):
                found.append((taken_at(file.name, status.st_mtime), file))
    return sorted(found, reverse=True)


def _none_verified(path: str, rejected: list[tuple[str, str]], found: int) -> str:
    problems = "; ".join(problem for _unused, problem in rejected)
    left = found - len(rejected)
    if left:
        advice = f"{left} older ones were not tried: raise candidates (vault_recovery_snapshot_candidates)"
    else:
        advice = "Fetch a copy from another store"
    return f"No snapshot in {path} can be used, {len(rejected)} tried: {problems}. {advice}."
