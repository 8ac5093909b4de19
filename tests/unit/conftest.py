# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the unit tests share: scripted Vault servers, a clock, and no trace of the environment they run in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from unit.vault.fake import Clock, FakeVault


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment without Vault, proxies or CAs of its own, and an empty home folder, which is given."""
    for name in list(os.environ):
        if name.startswith(("VAULT_", "AWS_")) or name.lower().endswith(("_proxy", "_ca_bundle")):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def vault(clean: Path, monkeypatch: pytest.MonkeyPatch) -> FakeVault:
    """Servers that answer by script, to every client that is made from here on."""
    fake = FakeVault()
    monkeypatch.setattr("requests.Session", fake.session)
    return fake


@pytest.fixture
def clock() -> Clock:
    """A clock that only sleeping moves."""
    return Clock()
