# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vault's data folder: the peers in a bbolt file, the copy that is kept aside, peers.json."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from ansible_collections.custodes.security_dr.plugins.module_utils.quorum import folder
from ansible_collections.custodes.security_dr.plugins.module_utils.quorum.errors import QuorumError
from hypothesis import given
from hypothesis import strategies as st
from unit.modules.runner import Runner

# As Vault 1.21.0 wrote them; the third peer of the older one had no vote yet.
NEW = (
    b"latest_config\x08\xaa\x02\x12\x13\x12\x03q-1\x1a\x0c10.0.0.1:820"
    b"\x12\x14\x12\x03q-2\x1a\x0d10.0.0.2:8201latest_indexes"
)
OLD = b"latest_config\x08)\x12\x16\x08\x01\x12\x03q-3\x1a\x0d10.0.0.3:8201latest_indexes\x08\x03\x10)"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    (path / "raft" / "snapshots").mkdir(parents=True)
    (path / "vault.db").write_bytes(b"\0" * 4096 + OLD + b"\0" * 999 + NEW + b"\0" * 10 + OLD)
    (path / "raft" / "raft.db").write_bytes(b"log")
    (path / "vault.db").chmod(0o600)
    return path


def test_the_newest_configuration_counts(data: Path) -> None:
    index, peers = folder.read_peers(data / "vault.db")
    assert index == 0x12A
    assert [(peer["id"], peer["address"], peer["non_voter"]) for peer in peers] == [
        ("q-1", "10.0.0.1:820", False),
        ("q-2", "10.0.0.2:8201", False),
    ]


def test_one_without_a_vote(tmp_path: Path) -> None:
    (tmp_path / "vault.db").write_bytes(OLD.replace(b"\x12\x16", b"\x12\x16"))
    assert folder.read_peers(tmp_path / "vault.db")[1] == [{"id": "q-3", "address": "10.0.0.3:8201", "non_voter": True}]


@pytest.mark.parametrize(
    "content", [b"", b"latest_config", b"latest_config\x08", NEW[:30], b"latest_config\x08\x01\x12\xff"]
)
def test_none_can_be_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "vault.db").write_bytes(content)
    assert folder.read_peers(tmp_path / "vault.db") == (0, [])


@given(st.binary(max_size=200))
def test_whatever_is_there_is_an_answer(noise: bytes) -> None:
    found = folder._configuration(noise)
    assert found is None or all(peer["id"] and peer["address"] for peer in found[1])


def test_a_survey(data: Path) -> None:
    found = folder.survey(data)
    assert (found["present"], found["in_use"], len(found["peers"])) == (True, False, 2)
    size = (data / "vault.db").stat().st_size + 3
    assert found["data_bytes"] == size
    folder.keep_aside(data, "stamp", move=False)
    assert folder.survey(data)["data_bytes"] == size
    assert folder.survey(data / "nowhere")["present"] is False


def test_that_vault_runs_is_seen_by_its_lock(data: Path) -> None:
    with (data / "vault.db").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert folder.is_in_use(data / "vault.db")
        ticks = iter(range(100))
        with pytest.raises(QuorumError, match=r"Vault still has .* open, 5 s after it was stopped"):
            folder.wait_released(data, 5, sleep=lambda _seconds: None, monotonic=lambda: float(next(ticks)))
        with pytest.raises(QuorumError, match="Vault runs on"):
            folder.write_peers(data, [])
    assert not folder.is_in_use(data / "vault.db")
    folder.wait_released(data, 0)


# ---- aside


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_copy_is_whole_and_is_made_once(data: Path) -> None:
    before = files(data)
    assert folder.keep_aside(data, "s", move=False) == (True, data / "aside-s")
    assert files(data / "aside-s") == before
    assert (data / "aside-s" / "vault.db").stat().st_mode & 0o777 == 0o600
    (data / "vault.db").write_bytes(b"later")
    assert folder.keep_aside(data, "s", move=False) == (False, data / "aside-s")
    assert files(data / "aside-s") == before


def test_a_copy_that_was_killed_begins_anew(data: Path) -> None:
    before = files(data)
    (data / "aside-s.partial").mkdir()
    (data / "aside-s.partial" / "rest").write_bytes(b"half")
    folder.keep_aside(data, "s", move=False)
    assert files(data / "aside-s") == before
    assert not (data / "aside-s.partial").exists()


def test_a_move_leaves_nothing_and_loses_nothing(data: Path) -> None:
    before = files(data)
    (data / "lost+found").mkdir()
    assert folder.keep_aside(data, "s", move=True)[0]
    assert sorted(entry.name for entry in data.iterdir()) == ["aside-s", "lost+found"]
    assert files(data / "aside-s") == before
    assert not folder.keep_aside(data, "s", move=True)[0]
    # Started once more in between: that is kept beside the first.
    (data / "vault.db").write_bytes(b"second")
    assert folder.keep_aside(data, "s", move=True)[0]
    assert files(data / "aside-s") == {**before, "vault.db.1": b"second"}
    assert folder.keep_aside(data / "nowhere", "s", move=True)[0] is False


@pytest.mark.parametrize(("move", "name"), [(False, "aside-s.partial"), (True, "aside-s")])
def test_a_link_in_the_place_of_the_folder_is_not_followed(data: Path, tmp_path: Path, move: bool, name: str) -> None:
    elsewhere, before = tmp_path / "elsewhere", files(data)
    elsewhere.mkdir(mode=0o711)
    (data / name).symlink_to(elsewhere)
    with pytest.raises(StoreError, match=f"Cannot keep {data} aside in {data}/aside-s: "):
        folder.keep_aside(data, "s", move=move)
    assert (list(elsewhere.iterdir()), elsewhere.stat().st_mode & 0o777) == ([], 0o711)
    assert files(data) == before


@pytest.mark.parametrize("planted", ["vault.db", "raft"])
def test_a_link_that_is_planted_in_the_copy_is_not_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    elsewhere, before, mkdir = tmp_path / "elsewhere", files(data), os.mkdir
    elsewhere.mkdir()
    (elsewhere / "file").write_bytes(b"of root")

    def mkdir_and_plant(name: str, mode: int, *, dir_fd: int) -> None:
        mkdir(name, mode, dir_fd=dir_fd)
        if name == "aside-s.partial":
            (data / name / planted).symlink_to(elsewhere / "file" if planted == "vault.db" else elsewhere)

    monkeypatch.setattr(os, "mkdir", mkdir_and_plant)
    with pytest.raises(StoreError, match=r"aside in .*: File exists"):
        folder.keep_aside(data, "s", move=False)
    assert files(elsewhere) == {"file": b"of root"}
    assert files(data) == before


def test_a_link_in_the_data_is_not_followed_into_the_copy(data: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"of root")
    (data / "raft" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(StoreError, match="link is a link, which is not followed"):
        folder.keep_aside(data, "s", move=False)
    assert not list(data.glob("aside-s*"))


# ---- peers.json, and the modules


def test_peers_json(data: Path) -> None:
    peers = [{"id": "q-1", "address": "10.0.0.1:8201", "non_voter": False}]
    assert folder.write_peers(data, peers) == (True, data / "raft" / "peers.json")
    assert json.loads((data / "raft" / "peers.json").read_text()) == peers
    assert (data / "raft" / "peers.json").stat().st_mode & 0o777 == 0o600
    assert folder.write_peers(data, peers)[0] is False
    with pytest.raises(QuorumError, match="no survivor"):
        folder.write_peers(data / "raft", peers)


def test_the_modules(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peers = [{"id": "q-1", "address": "10.0.0.1:8201"}]
    Runner(capsys, "vault_raft_peers_json", path=str(data), peers=peers).four_runs()
    assert json.loads((data / "raft" / "peers.json").read_text())[0]["non_voter"] is False
    nobody = [{**peers[0], "non_voter": True}]
    refused = Runner(capsys, "vault_raft_peers_json", path=str(data), peers=nobody).fails()
    assert refused["error_type"] == "QuorumError"
    aside = Runner(capsys, "vault_raft_data_aside", path=str(data), stamp="20261124T053000Z")
    aside.four_runs()
    assert "no stamp" in aside.fails(stamp="../../etc")["msg"]
    aside.four_runs(move=True)
    info = Runner(capsys, "vault_raft_peers_info", path=str(data))()
    assert (info["changed"], info["present"]) == (False, False)
