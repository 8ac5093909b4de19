# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The name of the user that runs this process, for records."""

from __future__ import annotations

import getpass
import os


def user_name() -> str:
    """Return the name of the user, or the user id where it has no name, as in a container."""
    try:
        return getpass.getuser()
    # KeyError up to Python 3.12, OSError since.
    except (KeyError, OSError):
        return str(os.getuid())
