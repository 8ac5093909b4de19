# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong between us and a Vault server, by what the operator has to do about it.

Every message says what was tried, on which address, what came back and what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional


class VaultError(Exception):
    """Base of all that this collection reports about Vault."""


class VaultConfigError(VaultError):
    """The options are at fault: a bad URL, a CA that does not vouch for the server, a missing credential."""


class VaultUnreachableError(VaultError):
    """No usable answer came back: refused, timed out, name not resolved, connection lost, no leader."""


class VaultMissedRestoreError(VaultUnreachableError):
    """A node has the keys of before a restore, or is cut off by them: Vault has to be restarted."""


class VaultAuthError(VaultError):
    """The login, or the token itself, was refused."""


class VaultPermissionError(VaultError):
    """The token is good, its policies do not allow the request."""


class VaultSealedError(VaultError):
    """The node is sealed."""


class VaultApiError(VaultError):
    """Vault answered with an error of another kind.

    Attributes:
        status: the HTTP status code.
        errors: Vault's own messages.
    """

    def __init__(self, message: str, status: int, errors: Optional[Sequence[str]] = None) -> None:
        super().__init__(message)
        self.status = status
        self.errors = list(errors or [])
