# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of Alertmanager's configuration: what is written, what is taken back, and what is left behind by a kill."""

from __future__ import annotations

import grp
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.alertmanager_files import (
    ConfigFiles,
    Running,
    hash_of,
    shown,
    text_of,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.alerting.errors import AlertingError
from ansible_collections.custodes.security_dr.plugins.module_utils.owned_files import Change, Content

GROUP = grp.getgrgid(os.getgid()).gr_name
CONFIG = text_of({"receivers": [{"name": "nobody"}]})
OTHER = text_of({"receivers": [{"name": "somebody"}]})


class Server(Running):
    """Uses what is in the file when it is reloaded, unless it is told to refuse."""

    def __init__(self, file: Path) -> None:
        super().__init__("http://127.0.0.1:1")
        self.file = file
        self.used = 0
        self.refuses: bytes | None = None
        self.reloads = 0

    def config_hash(self) -> int:
        return self.used

    def reload(self) -> None:
        self.reloads += 1
        data = self.file.read_bytes()
        if data == self.refuses:
            raise AlertingError("Alertmanager answers 500 to /-/reload: no.")
        self.used = hash_of(data)


class Site:
    def __init__(self, folder: Path) -> None:
        self.dest = folder / "alertmanager.yml"
        self.secrets = folder / "alertmanager-secrets"
        self.original = folder / "alertmanager.yml.orig"
        self.server = Server(self.dest)
        self.amtool = (0, "")
        self.tried: list[str] = []
        self.files = ConfigFiles(str(self.dest), GROUP, self.check, self.server)

    def check(self, path: str) -> tuple[int, str]:
        self.tried.append(Path(path).read_text())
        return self.amtool

    def run(self, config: bytes = CONFIG, **secrets: str) -> Sequence[Change]:
        differences = self.files.wanted(config, secrets)
        self.files.check(differences)
        if differences or self.files.stale(differences):
            self.files.apply(differences)
        return differences

    def remove(self) -> Sequence[Change]:
        differences = self.files.unwanted()
        if differences:
            self.files.apply(differences)
        return differences

    def state(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.dest.parent.rglob("*") if path.is_file()}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_secrets_and_configuration_are_for_the_group_and_a_second_run_changes_nothing(site: Site) -> None:
    site.run(pd="key")
    assert (site.secrets / "pd").read_text() == "key"
    assert stat.S_IMODE((site.secrets / "pd").stat().st_mode) == 0o640
    assert stat.S_IMODE(site.dest.stat().st_mode) == 0o640
    assert stat.S_IMODE(site.secrets.stat().st_mode) == 0o750
    assert (site.run(pd="key"), site.server.reloads) == ([], 1)


def test_a_link_in_the_place_of_the_folder_is_not_followed(site: Site, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o711)
    site.run()
    site.secrets.symlink_to(elsewhere)
    with pytest.raises(AlertingError, match=f"Cannot make {site.secrets}"):
        site.run(pd="key")
    assert (list(elsewhere.iterdir()), stat.S_IMODE(elsewhere.stat().st_mode)) == ([], 0o711)


def test_a_file_that_others_may_read_is_mended(site: Site) -> None:
    site.run(pd="key")
    (site.secrets / "pd").chmod(0o644)
    assert [one.path for one in site.run(pd="key")] == [str(site.secrets / "pd")]
    assert stat.S_IMODE((site.secrets / "pd").stat().st_mode) == 0o640


def test_a_secret_that_nobody_reads_any_longer_goes(site: Site) -> None:
    site.run(pd="key", slack="url")
    site.run(OTHER, pd="key")
    assert [path.name for path in site.secrets.iterdir()] == ["pd"]
    site.run()
    assert not site.secrets.exists()


def test_what_amtool_refuses_changes_nothing(site: Site) -> None:
    site.run(pd="key")
    before = site.state()
    site.amtool = (1, "bad")
    with pytest.raises(AlertingError, match=rf"amtool refuses {site.dest}: bad Nothing was changed"):
        site.run(OTHER, pd="new")
    assert (site.state(), site.tried[-1]) == (before, OTHER.decode())


@pytest.mark.parametrize("first", [True, False])
def test_what_alertmanager_refuses_is_taken_back(site: Site, first: bool) -> None:
    site.dest.write_text("theirs")
    site.dest.chmod(0o604)
    if not first:
        site.run(pd="key")
    before, mode = site.state(), site.dest.stat().st_mode
    site.server.refuses = OTHER
    with pytest.raises(AlertingError, match=r"answers 500 .* The files are as they were before"):
        site.run(OTHER, pd="new", slack="url")
    assert (site.state(), site.dest.stat().st_mode) == (before, mode)
    assert site.server.used == hash_of(before[str(site.dest)]), "and it has read that again"


def test_an_alertmanager_that_reads_another_file_is_told_apart(site: Site, tmp_path: Path) -> None:
    site.dest.write_text("theirs")
    site.server.file = tmp_path / "other.yml"
    site.server.file.write_text("other")
    with pytest.raises(AlertingError, match=r"does not use .*alertmanager.yml: its --config.file names another file"):
        site.run()
    assert site.dest.read_text() == "theirs"


def test_a_run_that_was_killed_before_the_reload_is_completed(site: Site) -> None:
    site.run()
    site.server.used = 1
    assert site.run() == []
    assert site.server.used == hash_of(CONFIG)


def test_what_was_there_is_kept_and_put_back(site: Site) -> None:
    site.dest.write_text("theirs")
    site.dest.chmod(0o600)
    site.run(pd="key")
    site.run(OTHER, pd="key")
    assert site.original.read_text() == "theirs"
    site.remove()
    assert site.state() == {str(site.dest): b"theirs"}
    assert stat.S_IMODE(site.dest.stat().st_mode) == 0o600
    assert site.server.used == hash_of(b"theirs")
    assert site.remove() == []


def test_a_removal_that_was_killed_is_completed(site: Site) -> None:
    site.dest.write_text("theirs")
    site.run(pd="key")
    shutil.copy2(site.original, site.dest)
    site.remove()
    assert site.state() == {str(site.dest): b"theirs"}


def test_without_one_before_there_is_none_to_go_back_to(site: Site) -> None:
    site.run()
    with pytest.raises(AlertingError, match="There was no configuration before"):
        site.remove()
    assert site.dest.read_bytes() == CONFIG


def test_a_diff_shows_no_secret() -> None:
    def content(data: bytes) -> Content:
        return Content(data, 0o640, 0, 0)

    hook = {"name": "x", "webhook_configs": [{"url": "https://u:pw@hc.example.com:8443/token?key=token"}]}
    told = shown(content(text_of({"receivers": [hook]})))
    assert "https://hc.example.com:8443/(not shown)" in told
    assert "token" not in told
    assert "pw" not in told
    hook = {"name": "x", "webhook_configs": [{"url": "https://u:pw@[2001:db8::1]:8443/token"}]}
    assert '"https://[2001:db8::1]:8443/(not shown)"' in shown(content(text_of({"receivers": [hook]})))
    for data in (b"theirs: token", text_of({"receivers": "token"}), text_of({})[:-3] + b" token"):
        assert "token" not in shown(content(data))


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AlertingError, match="There is no folder /nowhere"):
        ConfigFiles("/nowhere/a.yml", GROUP, lambda _path: (0, ""), None)
    with pytest.raises(AlertingError, match="There is no group no-such-group here"):
        ConfigFiles(str(tmp_path / "a.yml"), "no-such-group", lambda _path: (0, ""), None)


def test_one_that_was_just_started_gets_its_time_and_one_that_is_down_is_named() -> None:
    now = [0.0]
    slept: list[float] = []

    def sleep(time: float) -> None:
        slept.append(time)
        now[0] += time

    server = Running("http://127.0.0.1:1", patience=2.0, sleep=sleep, monotonic=lambda: now[0])
    with pytest.raises(AlertingError, match=r"Alertmanager does not answer on http://127.0.0.1:1: .*refused"):
        server.config_hash()
    assert sum(slept) == 2.0
