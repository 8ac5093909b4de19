# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways to stay on a host are looked at: keys, preloading, rights, units, profiles, accounts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import accounts, persistence
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.accounts import Account, parse
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.errors import DetectionError
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.inventory import HASHED
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.persistence import (
    KEYS,
    PROFILE,
    SETUID,
    SUDOERS,
    UID0,
    Options,
    key_patterns,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.rules import RULES
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.units import UNIT
from hypothesis import given
from hypothesis import strategies as st
from unit.detection.tree import PASSWD, Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("/etc/ld.so.preload", "persistence.ld_preload"),
        ("/etc/sudoers", SUDOERS),
        ("/etc/sudoers.d/x", SUDOERS),
        ("/etc/ssh/sshd_config", KEYS),
        ("/etc/ssh/sshd_config.d/x.conf", KEYS),
        ("/etc/ssh/authorized_keys.d/ada", KEYS),
        ("/root/.ssh/authorized_keys", KEYS),
        ("/home/ada/.ssh/authorized_keys2", KEYS),
        ("/home/other/.ssh/authorized_keys", KEYS),
        ("/home/ada/.ssh/rc", PROFILE),
        ("/root/.bashrc", PROFILE),
        ("/home/ada/.zshrc", PROFILE),
        *((f"/home/ada/{name}", PROFILE) for name in (".bash_aliases", ".zlogout", ".kshrc", ".cshrc", ".tcshrc")),
        *((f"/etc/{name}", PROFILE) for name in ("bash.bash_logout", "zlogout", "ksh.kshrc", "csh.cshrc", "csh.login")),
        ("/etc/profile", PROFILE),
        ("/etc/profile.d/x.sh", PROFILE),
        ("/etc/update-motd.d/00-x", PROFILE),
        ("/etc/environment", PROFILE),
        ("/etc/rc.local", UNIT),
        ("/etc/init.d/x", UNIT),
        ("/etc/systemd/system/x.service", UNIT),
        ("/usr/lib/systemd/system/x.socket", UNIT),
        ("/home/ada/.config/systemd/user/x.path", UNIT),
    ],
)
def test_each_place_has_its_rule(tree: Tree, path: str, rule: str) -> None:
    tree.file(path, "x")
    assert tree.paths(rule) == {path}
    assert rule in RULES


def test_private_keys_are_not_read(tree: Tree) -> None:
    tree.file("/root/.ssh/id_ed25519", "secret")
    assert not any("id_ed25519" in path for path in tree.everything().items)


@pytest.mark.parametrize(
    ("setting", "path"),
    [
        ("AuthorizedKeysFile /etc/keys/%u", "/etc/keys/ada"),
        ("authorizedkeysfile=/etc/keys/%u/keys none", "/etc/keys/ada/keys"),
        ('  AuthorizedKeysFile "/etc/keys/%u.%%" .ssh/authorized_keys', "/etc/keys/ada.%"),
        ("Match User ada\n\tAuthorizedKeysFile .keys", "/home/ada/.keys"),
        ("AuthorizedKeysFile %h/.keys", "/home/ada/.keys"),
        ("AuthorizedKeysFile /etc/keys/all", "/etc/keys/all"),
    ],
)
@pytest.mark.parametrize("config", [persistence.SSHD_CONFIG, f"{persistence.SSHD_FOLDER}/x.conf"])
def test_keys_are_looked_for_where_sshd_does(tree: Tree, setting: str, path: str, config: str) -> None:
    tree.file(config, f"# AuthorizedKeysFile /etc/no\n{setting}\n")
    tree.file(path)
    assert tree.paths(KEYS) == {config, path}


@given(st.text())
def test_any_text_is_read_for_keys(text: str) -> None:
    for pattern in key_patterns(f"AuthorizedKeysFile {text}"):
        assert "\0" not in pattern
        assert persistence._expanded(pattern, Account("a%u", 1, "/h"))[0] == "/"


def test_setuid_and_setgid_files_are_seen_in_the_folders_that_are_named_and_one_below(tree: Tree) -> None:
    tree.file("/usr/bin/sudo", "s", 0o4755)
    tree.file("/usr/bin/wall", "s", 0o2755)
    tree.file("/usr/bin/ls", "s", 0o755)
    tree.file("/tmp/.x/bash", "s", 0o4755)
    tree.file("/tmp/.x/y/deeper", "s", 0o4755)
    tree.folder("/usr/bin/folder").chmod(0o2755)
    tree.link("/usr/bin/link", "sudo")
    tree.link("/bin", "usr/bin")
    items = tree.items(SETUID)
    assert set(items) == {"/usr/bin/sudo", "/usr/bin/wall", "/tmp/.x/bash"}
    assert items["/usr/bin/sudo"].mode == 0o4755


def test_the_folders_for_setuid_files_are_the_operators_choice(tree: Tree) -> None:
    tree.file("/usr/bin/sudo", "s", 0o4755)
    tree.file("/opt/x", "s", 0o4755)
    assert [path for path, item in tree.persistence("/opt").items.items() if item.rule == SETUID] == ["/opt/x"]


@pytest.mark.parametrize("folders", [("/opt", "/opt/app/"), ("/opt/app", "/opt/")])
def test_a_folder_that_lies_in_another_has_its_own_folders_looked_into(tree: Tree, folders: tuple[str, ...]) -> None:
    tree.file("/opt/app/bin/x", "x", 0o4755)
    assert "/opt/app/bin/x" in tree.persistence(*folders).items


def test_too_many_folders_below_are_a_blind_spot(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistence, "MOST_FOLDERS", 2)
    for number in range(3):
        tree.file(f"/tmp/{number}/x", "s", 0o4755)
    seen = tree.everything()
    assert seen.blind == ["/tmp holds more than 2 folders; the rest was not looked into."]
    assert sum(item.rule == SETUID for item in seen.items.values()) == 2


def test_accounts_of_uid_0_are_items(tree: Tree) -> None:
    tree.file("/etc/passwd", f"{PASSWD}toor:x:00:0::/:/bin/sh\n#no:x:0:0::/:\nhalf:x:0\n\n:x:0:0::/:/bin/sh\n")
    assert set(tree.items(UID0)) == {"/etc/passwd:root", "/etc/passwd:toor", "/etc/passwd:"}


def test_accounts_behind_the_end_of_what_is_read_are_said(tree: Tree) -> None:
    tree.file("/etc/passwd", f"{PASSWD}#{'x' * HASHED}\ntoor:x:0:0::/:/bin/sh\n")
    seen = tree.everything()
    assert seen.blind == ["/etc/passwd is longer than 4194304 bytes; the accounts after them were not read."]
    assert seen.is_unseen("/etc/passwd:toor")


@pytest.mark.parametrize("line", ["a::0:0", "a::0:0:", "a:x:0:0:Ada", "a:x:0:0:Ada:/x"])
def test_an_account_may_have_a_short_line_as_the_c_library_sees_it(line: str) -> None:
    assert [account.uid for account in parse(line)] == [0]


@pytest.mark.parametrize(
    ("field", "uid"),
    [
        ("0", 0),
        ("00", 0),
        ("0" * 5000, 0),
        ("-0", 0),
        ("+0", 0),
        (" 0", 0),
        ("4294967296", 0),
        ("12", 12),
        ("", None),
        ("x", None),
    ],
)
def test_numbers_of_accounts_are_read_as_the_c_library_does(field: str, uid: int | None) -> None:
    assert [account.uid for account in parse(f"a:x:{field}:0::/:/bin/sh")] == ([] if uid is None else [uid])


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_any_text_is_read_as_a_passwd_file(text: str) -> None:
    for account in parse(f"{text}\na:x:1:1:{text}:{text}:"):
        assert account.home.startswith("/")


@pytest.mark.parametrize("number", ["9" * 5000, "-1", "²", "0_0"])
def test_numbers_that_are_none_break_nothing(number: str) -> None:
    assert len(parse(f"a:x:{number}:0::/:/bin/sh\nb:x:1:1::/b:/bin/sh")) in (1, 2)


def test_homes_are_looked_into_once_and_bounded(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.file("/etc/passwd", f"{PASSWD}daemon:x:1:1::/:/x\nbin:x:2:2::/nonexistent:/x\neve:x:3:3::/home/ada:/x\n")
    known = accounts.read(tree.reader())
    assert known.homes == ["/root", "/home/ada", "/"]
    monkeypatch.setattr(accounts, "MOST_HOMES", 1)
    assert accounts.read(tree.reader()).seen.blind == ["There are more than 1 homes; the rest was not looked at."]


def test_a_home_of_a_user_may_be_anything(tree: Tree) -> None:
    home = tree.at("/home/ada")
    tree.link("/home/ada/.ssh", "/etc")
    tree.link("/home/ada/.bashrc", "/dev/zero")
    os.mkfifo(home / ".profile")
    tree.link("/home/ada/.config", "loop")
    tree.link("/home/ada/loop", ".config")
    tree.folder("/home/ada/.zshrc")
    seen = tree.everything()
    assert seen.blind == []
    assert {path: item.kind for path, item in seen.items.items() if path.startswith("/home/ada/")} == {
        "/home/ada/.bashrc": "link",
        "/home/ada/.profile": "fifo",
        "/home/ada/.zshrc": "folder",
    }


def test_the_options_are_strict() -> None:
    assert Options.from_config(None) == Options()
    assert Options.from_config({"setuid_folders": ["/opt"], "skip_folders": ["/nfs"]}) == Options(("/opt",), ("/nfs",))
    wrongs: list[Any] = [
        {"other": []},
        {"setuid_folders": "/opt"},
        {"skip_folders": ["opt"]},
        {"skip_folders": [1]},
        [],
    ]
    for wrong in wrongs:
        with pytest.raises(DetectionError, match="persistence"):
            Options.from_config(wrong)
