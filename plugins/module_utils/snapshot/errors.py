# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be wrong with a snapshot."""

from __future__ import annotations


class SnapshotError(Exception):
    """A snapshot cannot be used; the message says which, why and what to do next."""


class SnapshotCorruptError(SnapshotError):
    """The bytes are not a complete, intact Vault Raft snapshot."""


class SnapshotMismatchError(SnapshotError):
    """The snapshot is intact but is another one than was asked for."""
