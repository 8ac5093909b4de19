# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the versions of Vault and OpenBao."""

from __future__ import annotations

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.versions import numbers


@pytest.mark.parametrize(
    ("version", "found"),
    [
        ("1.21.4", (1, 21, 4)),
        ("2.0.1+ent.hsm.fips1403", (2, 0, 1)),
        ("v2.6.2-rc1", (2, 6, 2)),
        ("1.9", (1, 9)),
        ("unknown", ()),
        (None, ()),
    ],
)
def test_the_first_three_numbers_count(version: str | None, found: tuple[int, ...]) -> None:
    assert numbers(version) == found
