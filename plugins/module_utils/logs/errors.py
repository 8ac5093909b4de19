# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong with the log pipeline, for the person who reads it."""

from __future__ import annotations


class LogsError(Exception):
    """The message says which option is at fault, what would happen, and what to do."""
