# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a trust store: what is asked of them, and whose they are."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

from ..owned_files import Content
from .errors import TlsError

LONGEST = 64 * 1024 * 1024
"""Bytes of a bundle or a keystore."""


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
