# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's configuration: where secrets come from, and files that are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.agent import config
from ansible_collections.custodes.security_dr.plugins.module_utils.agent.config import ConfigError, read_config

SECRET = "s.do-not-show-me"


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    """What systemd gives a service: a folder of files."""
    folder = tmp_path / "run-credentials"
    folder.mkdir()
    (folder / "vault-secret-id").write_text(SECRET + "\n")
    (folder / "s3").write_text("s3-secret")
    return folder


def written(folder: Path, value: Any, mode: int = 0o640) -> str:
    file = folder / "snapshot.json"
    file.write_text(value if isinstance(value, str) else json.dumps(value))
    file.chmod(mode)
    return str(file)


def test_a_named_credential_takes_the_place_of_its_option(tmp_path: Path, credentials: Path) -> None:
    path = written(
        tmp_path,
        {
            "vault": {"url": "https://vault-1:8200", "secret_id_credential": "vault-secret-id"},
            "destinations": [{"type": "s3", "bucket": "b", "secret_key_credential": "s3", "tags": {"a": "b"}}],
            "read_back_every": 7,
        },
        0o644,
    )
    assert read_config(path, {"CREDENTIALS_DIRECTORY": str(credentials)}) == {
        "vault": {"url": "https://vault-1:8200", "secret_id": SECRET},
        "destinations": [{"type": "s3", "bucket": "b", "secret_key": "s3-secret", "tags": {"a": "b"}}],
        "read_back_every": 7,
    }


def test_by_hand_the_folder_beside_the_file_serves(tmp_path: Path, credentials: Path) -> None:
    credentials.rename(tmp_path / "credentials")
    path = written(tmp_path, {"vault": {"token_credential": "vault-secret-id"}})
    assert read_config(path, {})["vault"] == {"token": SECRET}


@pytest.mark.parametrize("name", sorted(config.SECRETS))
@pytest.mark.parametrize("where", ["vault", "destinations"])
def test_a_file_that_holds_a_secret_is_not_for_everyone(tmp_path: Path, name: str, where: str) -> None:
    held: Any = {name: SECRET}
    value = {where: [held] if where == "destinations" else held}
    with pytest.raises(ConfigError, match=f"everyone on this host can read it. Give {name}_credential") as refused:
        read_config(written(tmp_path, value, 0o644), {})
    assert SECRET not in str(refused.value)
    assert read_config(written(tmp_path, value, 0o640), {}) == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "There is no .*snapshot.json. Name the configuration with --config"),
        ("{", "is damaged"),
        ("[]", "holds no JSON object"),
        ('{"vault": {"token_credential": "missing"}}', "missing, which token_credential names: No such file"),
        ('{"vault": {"token_credential": "empty"}}', "is empty"),
        ('{"vault": {"token_credential": "binary"}}', "it is not text"),
        ('{"vault": {"token_credential": "../etc/shadow"}}', "not a path and not the secret itself"),
        ('{"vault": {"token_credential": 7}}', "not a path and not the secret itself"),
    ],
)
def test_what_is_not_usable_is_named(tmp_path: Path, credentials: Path, content: str | None, message: str) -> None:
    (credentials / "empty").write_text(" \n")
    (credentials / "binary").write_bytes(b"\xff\xfe")
    path = written(tmp_path, content) if content is not None else str(tmp_path / "snapshot.json")
    with pytest.raises(ConfigError, match=message):
        read_config(path, {"CREDENTIALS_DIRECTORY": str(credentials)})


class TestBecomeOwner:
    @pytest.fixture
    def calls(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
        """Root that is told to become someone, and what the kernel was asked for."""
        made: list[tuple[str, ...]] = []
        monkeypatch.setattr(config.os, "geteuid", lambda: 0)
        for name in ("initgroups", "setgid", "setuid"):
            monkeypatch.setattr(config.os, name, lambda *args, name=name: made.append((name, *map(str, args))))
        return made

    def owned(self, monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
        real = os.stat
        monkeypatch.setattr(
            config.os, "stat", lambda path, **more: SimpleNamespace(st_uid=uid, st_mode=real(path, **more).st_mode)
        )

    def test_root_becomes_the_owner_groups_first(
        self, tmp_path: Path, calls: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.owned(monkeypatch, 977)
        user = SimpleNamespace(pw_name="custodes-snapshot", pw_uid=977, pw_gid=978)
        monkeypatch.setattr(config.pwd, "getpwuid", {977: user}.__getitem__)
        config.become_owner(str(tmp_path))
        assert calls == [("initgroups", "custodes-snapshot", "978"), ("setgid", "978"), ("setuid", "977")]

    def test_roots_own_folder_and_a_missing_one_stay_roots(
        self, tmp_path: Path, calls: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.owned(monkeypatch, 0)
        config.become_owner(str(tmp_path))
        config.become_owner(str(tmp_path / "missing"))
        config.become_owner(None)
        assert calls == []

    def test_an_owner_without_a_name_is_refused(
        self, tmp_path: Path, calls: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.owned(monkeypatch, 4_000_000)
        with pytest.raises(ConfigError, match="user ID 4000000"):
            config.become_owner(str(tmp_path))
        assert calls == []
