# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A line that stands nowhere else, logged as any other is: into the journal or at the end of a file.

Sources: systemd's "Native Journal Protocol"; Kubernetes' format of container logs, "CRI logging".
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import stat
import time
from datetime import datetime, timezone

from .errors import LogsError

JOURNAL = "/run/systemd/journal/socket"
FORMS = ("plain", "cri")


def new_marker() -> str:
    """An id that nobody has seen before, and nobody can guess."""
    return f"marker-{secrets.token_hex(16)}"


def into_journal(marker: str, path: str = JOURNAL) -> float:
    """Logs the line as the program ``custodes`` and gives the time, in seconds since 1970. Raises LogsError."""
    now = time.time()
    fields = f"MESSAGE={_text(marker)}\nPRIORITY=6\nSYSLOG_IDENTIFIER=custodes\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
            journal.settimeout(10)
            journal.sendto(fields.encode(), path)
    except OSError as error:
        raise LogsError(
            f"Cannot log to the journal at {path}: {error.strerror or error}. Is systemd-journald running here? Where "
            "there is none, give a file that Fluent Bit follows."
        ) from error
    return now


def into_file(marker: str, path: str, form: str = "plain") -> float:
    """Appends the line to the file, which is made where its folder exists, and gives the time. Raises LogsError.

    Args:
        path: of a regular file; no symbolic link is followed.
        form: plain, or cri as container logs have it.
    """
    now = time.time()
    stamp = datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
    line = f"{stamp} stdout F {_text(marker)}\n" if form == "cri" else f"{stamp} {_text(marker)}\n"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, flags, 0o644)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file")
            # In one call: lines of others are not cut in two.
            os.write(handle, line.encode())
        finally:
            os.close(handle)
    except OSError as error:
        raise LogsError(
            f"Cannot append a line to {path}: {error.strerror}. Give a file in a folder that exists, that is no link, "
            "and that Fluent Bit follows."
        ) from error
    return now


def _text(marker: str) -> str:
    return f"custodes: is this line in every log backend? {marker}"
