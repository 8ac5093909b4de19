# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a service or of the system, with their owner and mode: read whole, replaced, and put back as they were."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import NamedTuple, Optional

from .files import StoreError, explain, new_file, read_regular


class Content(NamedTuple):
    """What a file is. Attributes: data; mode, its permissions; uid and gid, whose it is."""

    data: bytes
    mode: int
    uid: int
    gid: int


class Change(NamedTuple):
    """One file. Attributes: path; before and after, None where there is none."""

    path: str
    before: Optional[Content]
    after: Optional[Content]


def read(path: str, longest: int) -> Optional[Content]:
    """What is there, None for nothing. Raises StoreError, also when it has more than `longest` bytes."""
    try:
        found = os.stat(path)
        data = read_regular(path, longest)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"Cannot read {path}: {explain(error)}.") from error
    return Content(data, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)


def put(path: str, content: Optional[Content]) -> None:
    """Replaces the file, or removes it where the content is None. Raises StoreError."""
    try:
        if content is None:
            with suppress(FileNotFoundError):
                os.unlink(path)
            return
        with new_file(path) as file:
            file.write(content.data)
            os.fchown(file.fileno(), content.uid, content.gid)
            os.fchmod(file.fileno(), content.mode)
    except OSError as error:
        raise StoreError(f"Cannot write {path}: {explain(error)}.") from error
