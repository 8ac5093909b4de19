# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a trust store: what they are, what they will be, and how one becomes the other."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Optional

from ..files import StoreError, explain, new_file, read_regular
from .errors import TlsError

LONGEST = 64 * 1024 * 1024
"""Bytes of a bundle or a keystore."""


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


class BundleFile(NamedTuple):
    """A file of the roots.

    Attributes:
        path: where.
        system: whether the system's are in it as well.
        mode: its permissions.
        uid, gid: whose it is; None leaves that as it is.
    """

    path: str
    system: bool = False
    mode: int = 0o644
    uid: Optional[int] = None
    gid: Optional[int] = None

    @classmethod
    def from_options(cls, given: Mapping[str, Any]) -> BundleFile:
        """From `path`, `system`, `mode`, `owner` and `group`. Raises TlsError."""
        path, owner, group, mode = (given[name] for name in ("path", "owner", "group", "mode"))
        try:
            # YAML has made a number of 0644.
            permissions = mode if isinstance(mode, int) else int(str(mode), 8)
            uid = None if owner is None else pwd.getpwnam(owner).pw_uid
            gid = None if group is None else grp.getgrnam(group).gr_gid
        except ValueError as error:
            raise TlsError(f"The mode {mode!r:.40} of {path} is no octal number, such as '0644'.") from error
        except KeyError as error:
            raise TlsError(f"The owner or group of {path} is not known on this host: {error.args[0]}.") from error
        return cls(path, given["system"], permissions, uid, gid)


def owned(data: bytes, before: Optional[Content]) -> Content:
    """That of a file that was there stays; another is for everybody to read."""
    if before:
        return before._replace(data=data)
    return Content(data, 0o644, os.geteuid(), os.getegid())


def read(path: str) -> Optional[Content]:
    try:
        found = os.stat(path)
        data = read_regular(path, LONGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TlsError(f"Cannot read {path}: {explain(error)}.") from error
    return Content(data, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)


def put(path: str, content: Optional[Content]) -> None:
    try:
        if content is None:
            with suppress(FileNotFoundError):
                os.unlink(path)
            return
        with new_file(path) as file:
            file.write(content.data)
            os.fchown(file.fileno(), content.uid, content.gid)
            os.fchmod(file.fileno(), content.mode)
    except StoreError as error:
        raise TlsError(str(error)) from error
    except OSError as error:
        raise TlsError(f"Cannot write {path}: {explain(error)}.") from error
