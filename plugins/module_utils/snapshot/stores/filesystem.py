# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots in a folder: of a disk of this host, or of something that is mounted here."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from ...files import StoreError, explain, new_file, remove_unless_in_use, sync_folder, write_json
from ..library import SUFFIX, taken_at
from ..manifest import read_manifest
from .base import MANIFEST_SUFFIX, Stored, check_name, is_name, newest_first

_CHUNK = 1024 * 1024


class _FileWriter:
    """Fails as a store does at the write itself, so that a full disk here does not end the other destinations."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        self._path = path

    def write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise StoreError(
                f"Cannot write {self._path}: {explain(error)}. Nothing was left under this name. Make room or choose "
                "another folder, then run this again."
            ) from error


class FilesystemStore:
    """A folder; it is made, with mode 0700, at the first write, if the one that it lies in exists."""

    def __init__(self, path: str) -> None:
        self.label = path
        self._folder = Path(path)

    @contextmanager
    def writer(self, name: str) -> Iterator[_FileWriter]:
        path = self._path(name)
        self._make_folder()
        if path.exists():
            raise StoreError(
                f"{path} exists already and is not overwritten. Look at this host's clock, run this again."
            )
        with new_file(path) as file:
            yield _FileWriter(file, path)

    def listing(self) -> list[Stored]:
        try:
            with os.scandir(self._folder) as entries:
                files = {entry.name: entry for entry in entries if entry.is_file(follow_symlinks=False)}
            found = []
            for name, entry in files.items():
                if is_name(name):
                    status = entry.stat(follow_symlinks=False)
                    taken = taken_at(name, status.st_mtime)
                    found.append(Stored(name, taken, status.st_size, name + MANIFEST_SUFFIX in files))
        except FileNotFoundError:
            self._check_parent()
            return []
        except OSError as error:
            raise self._unreadable(error) from error
        return newest_first(found)

    @contextmanager
    def reader(self, name: str) -> Iterator[Iterator[bytes]]:
        path = self._path(name)
        try:
            file = path.open("rb")
        except FileNotFoundError as error:
            raise StoreError(f"There is no {path}. List what this store holds, and name one of that.") from error
        except OSError as error:
            raise self._unreadable(error) from error
        with file:
            yield self._chunks(file)

    def checksum_matches(self, name: str, sha256: str) -> bool | None:  # noqa: ARG002 - as every store
        """None: no file system tells. The caller reads it back."""
        return None

    def write_manifest(self, name: str, manifest: Mapping[str, Any]) -> None:
        self._make_folder()
        write_json(self._path(name, MANIFEST_SUFFIX), manifest)

    def read_manifest(self, name: str) -> dict[str, Any] | None:
        return read_manifest(self._path(name))

    def delete(self, name: str) -> None:
        try:
            self._path(name, MANIFEST_SUFFIX).unlink(missing_ok=True)
            self._path(name).unlink(missing_ok=True)
            sync_folder(self._folder)
        except OSError as error:
            raise StoreError(
                f"Cannot delete {name} in {self._folder}: {explain(error)}. Check the folder's owner, mode and mount."
            ) from error

    def clean(self, older_than: timedelta) -> list[str]:  # noqa: ARG002 - as every store
        """As every store does; the age does not matter here: a lock tells whether somebody still writes."""
        partial = sorted(self._folder.glob(f".*{SUFFIX}*.partial"))
        return [f"unfinished file {path}" for path in partial if remove_unless_in_use(path)]

    def lacks(self) -> list[str]:
        try:
            mode = stat.S_IMODE(self._folder.stat().st_mode)
            free = shutil.disk_usage(self._folder).free
        except FileNotFoundError:
            self._check_parent()
            return []
        except OSError as error:
            raise self._unreadable(error) from error
        found = []
        if mode & 0o077:
            found.append(f"{self._folder} has mode {mode:04o}, so others than its owner get in: chmod 0700 it.")
        largest = max((stored.size for stored in self.listing()), default=0)
        if free < 2 * largest:
            found.append(
                f"{self._folder} has {free} bytes free, not enough for two more of its largest, {largest} bytes."
            )
        return found

    def _path(self, name: str, suffix: str = "") -> Path:
        check_name(name)
        return self._folder / (name + suffix)

    def _chunks(self, file: IO[bytes]) -> Iterator[bytes]:
        try:
            while chunk := file.read(_CHUNK):
                yield chunk
        except OSError as error:
            raise StoreError(f"Cannot read {file.name}: {explain(error)}. Check the disk, use another copy.") from error

    def _make_folder(self) -> None:
        self._check_parent()
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(f"Cannot make the folder {self._folder}: {explain(error)}. Make it by hand.") from error

    def _check_parent(self) -> None:
        # Not made: it may be the place of something that is not mounted today, and a snapshot there would be lost.
        if not self._folder.parent.is_dir():
            raise StoreError(
                f"Cannot use the folder {self._folder}: {self._folder.parent} does not exist. Mount it, or make it."
            )

    def _unreadable(self, error: OSError) -> StoreError:
        return StoreError(f"Cannot read {self._folder}: {explain(error)}. Check its owner, mode and mount.")
