# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong when certificates are looked at, for the person who reads it."""

from __future__ import annotations


class TlsError(Exception):
    """The options are at fault: a bundle that is none, an address that is none. A bad certificate is an answer."""
