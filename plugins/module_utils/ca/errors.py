# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong between us and a certificate authority, for the person who reads it."""

from __future__ import annotations


class CaError(Exception):
    """The message says what was tried, on which authority, what came back and what to do next."""
