# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every place from which something runs by schedule is looked at, and nothing else is called that."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import scheduled, units
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.units import TIMER, UNIT
from unit.detection.test_inventory import refuse
from unit.detection.tree import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


CRON = [
    "/etc/crontab",
    "/etc/anacrontab",
    "/etc/cron.allow",
    "/etc/cron.d/x",
    "/etc/cron.hourly/x",
    "/etc/cron.daily/.hidden",
    "/etc/cron.weekly/x",
    "/etc/cron.monthly/x",
    "/etc/cron.yearly/x",
    "/var/spool/cron/ada",
    "/var/spool/cron/crontabs/ada",
    "/var/spool/cron/tabs/ada",
]


@pytest.mark.parametrize("path", CRON)
def test_cron_jobs_are_seen_wherever_a_distribution_keeps_them(tree: Tree, path: str) -> None:
    tree.file(path)
    assert tree.paths("schedule.cron") == {path}


def test_folders_of_cron_count_for_their_mode(tree: Tree) -> None:
    tree.folder("/etc/cron.d").chmod(0o777)
    item = tree.items("schedule.cron")["/etc/cron.d"]
    assert (item.kind, item.mode) == ("folder", 0o777)


@pytest.mark.parametrize("folder", scheduled.AT_FOLDERS)
def test_jobs_of_at_are_seen_and_its_counter_and_running_ones_are_not(tree: Tree, folder: str) -> None:
    for name in (".SEQ", "a0000101c0ffee", "=0000101c0ffee", ".hidden"):
        tree.file(f"{folder}/{name}")
    assert tree.paths("schedule.at") == {f"{folder}/a0000101c0ffee", f"{folder}/.hidden"}


def test_jobs_in_the_spool_of_cron_are_no_cron_jobs_of_at(tree: Tree) -> None:
    tree.file("/var/spool/cron/atjobs/a0000101c0ffee")
    assert tree.paths("schedule.cron") == set()


def timer(tree: Tree, folder: str, name: str, text: str = "[Timer]\nOnCalendar=daily\n") -> None:
    tree.file(f"{folder}/{name}.timer", text)
    tree.file(f"{folder}/{name}.service", "[Service]\nExecStart=/bin/true\n")


TIMERS = [
    *(folder for folder in units.SYSTEM if folder != "/lib/systemd/system"),
    *units.USER,
    "/root/.config/systemd/user",
    "/root/.config/systemd/user.control",
    "/home/ada/.config/systemd/user",
    "/home/ada/.local/share/systemd/user",
    "/run/user/1000/systemd/transient",
    "/run/user/1000/systemd/user.control",
    "/run/user/1000/systemd/user",
]


@pytest.mark.parametrize("folder", TIMERS)
def test_a_timer_and_the_service_of_its_name_are_seen(tree: Tree, folder: str) -> None:
    timer(tree, folder, "backup")
    assert tree.paths(TIMER) == {f"{folder}/backup.timer", f"{folder}/backup.service"}


def test_a_home_that_no_account_has_is_looked_into(tree: Tree) -> None:
    timer(tree, "/home/ldap-user/.config/systemd/user", "x")
    assert len(tree.paths(TIMER)) == 2


@pytest.mark.parametrize(
    ("text", "service"),
    [
        ("[Timer]\nUnit=other.service\n", "other.service"),
        ("[Timer]\n  Unit = other.service \n", "other.service"),
        ("[Timer]\nUnit=some@daily.service\n", "some@.service"),
        ("[Timer]\nUnit=some@%i.service\n", "some@.service"),
        ("[Timer]\nUnit=mount.target\n", "mount.target"),
    ],
)
def test_what_a_timer_names_is_started_by_it(tree: Tree, text: str, service: str) -> None:
    tree.file("/etc/systemd/system/a.timer", text)
    tree.file(f"/usr/lib/systemd/system/{service}")
    tree.file("/usr/lib/systemd/system/ssh.service")
    assert tree.paths(TIMER) == {"/etc/systemd/system/a.timer", f"/usr/lib/systemd/system/{service}"}
    assert tree.paths(UNIT) == {"/usr/lib/systemd/system/ssh.service"}


def test_drop_ins_and_the_links_that_enable_belong_to_their_unit(tree: Tree) -> None:
    timer(tree, "/usr/lib/systemd/system", "a@")
    tree.file("/etc/systemd/system/a@.timer.d/more.conf", "[Timer]\nUnit=b.service\n")
    tree.file("/etc/systemd/system/a@one.service.d/more.conf")
    tree.file("/etc/systemd/system/a@two.service.d/more.conf")
    tree.file("/etc/systemd/system/b.service.d/more.conf")
    tree.file("/etc/systemd/system/b.service.d/more.conf.bak")
    tree.file("/etc/systemd/system/ssh.service.d/more.conf")
    tree.link("/etc/systemd/system/timers.target.wants/a@one.timer", "/usr/lib/systemd/system/a@.timer")
    tree.link("/etc/systemd/system/multi-user.target.requires/ssh.service", "/dev/null")
    assert tree.paths(TIMER) == {
        "/usr/lib/systemd/system/a@.timer",
        "/usr/lib/systemd/system/a@.service",
        "/etc/systemd/system/a@.timer.d/more.conf",
        "/etc/systemd/system/a@one.service.d/more.conf",
        "/etc/systemd/system/a@two.service.d/more.conf",
        "/etc/systemd/system/b.service.d/more.conf",
        "/etc/systemd/system/timers.target.wants/a@one.timer",
    }
    assert tree.paths(UNIT) == {
        "/etc/systemd/system/ssh.service.d/more.conf",
        "/etc/systemd/system/multi-user.target.requires/ssh.service",
    }


def test_one_folder_under_two_names_is_looked_at_once(tree: Tree) -> None:
    timer(tree, "/usr/lib/systemd/system", "a")
    tree.link("/lib", "usr/lib")
    assert tree.paths(TIMER) == {"/usr/lib/systemd/system/a.timer", "/usr/lib/systemd/system/a.service"}


def test_a_link_to_another_unit_has_no_content_of_its_own_and_one_out_of_the_folders_has(tree: Tree) -> None:
    tree.file("/usr/lib/systemd/system/real.service", "vendor's")
    tree.link("/etc/systemd/system/alias.service", "/usr/lib/systemd/system/real.service")
    tree.file("/opt/evil.service", "evil")
    tree.link("/etc/systemd/system/evil.service", "/opt/evil.service")
    tree.link("/etc/systemd/system/auditd.service", "/dev/null")
    tree.link("/etc/systemd/system/loop.service", "loop.service")
    items = tree.items(UNIT)
    assert items["/etc/systemd/system/alias.service"].sha256 == ""
    assert items["/etc/systemd/system/evil.service"].sha256 != ""
    assert items["/etc/systemd/system/auditd.service"].note == "/dev/null"
    assert items["/etc/systemd/system/loop.service"].kind == "link"


def test_of_what_is_transient_only_timers_and_what_they_start_count(tree: Tree) -> None:
    timer(tree, "/run/systemd/transient", "run-r1")
    tree.file("/run/systemd/transient/session-1.scope")
    tree.file("/run/systemd/transient/run-r2.service")
    assert tree.paths(TIMER) == {"/run/systemd/transient/run-r1.timer", "/run/systemd/transient/run-r1.service"}
    assert tree.paths(UNIT) == set()


@pytest.mark.parametrize("name", ["a.timer", "x\n.timer", os.fsdecode(b"\xff.timer"), ".timer", "@.timer", "@@.timer"])
@pytest.mark.parametrize("content", [b"", b"Unit=\nUnit=@\n", b"\xff\0Unit=\xff@.service\n", b"Unit=" + b"a" * 100_000])
def test_hostile_timers_are_items(tree: Tree, name: str, content: bytes) -> None:
    tree.file(f"/home/ada/.config/systemd/user/{name}", content)
    assert tree.paths(TIMER) == {f"/home/ada/.config/systemd/user/{name}"}


def test_hostile_things_in_the_place_of_units_are_items_or_nothing(tree: Tree) -> None:
    folder = tree.folder("/home/ada/.config/systemd/user")
    os.mkfifo(folder / "fifo.timer")
    tree.link("/home/ada/.config/systemd/user/zero.timer", "/dev/zero")
    tree.folder("/home/ada/.config/systemd/user/folder.timer")
    tree.link("/home/ada/.config/systemd/user/loop.timer.d", ".")
    tree.link("/home/ada/.config/systemd/user/root.wants", "/")
    tree.link("/home/ada/.local/share/systemd/user", "user")
    assert {path.rpartition("/")[2] for path in tree.paths(TIMER)} == {"fifo.timer", "zero.timer"}
    assert tree.everything().blind == []


def test_a_place_that_cannot_be_read_is_told_by_the_scanner(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "scandir", tree.folder("/var/spool/cron/crontabs"), errno.EACCES)
    seen = tree.scheduled()
    assert seen.blind == ["/var/spool/cron/crontabs cannot be read: Permission denied."]
    assert seen.is_unseen("/var/spool/cron/crontabs/ada")


def test_without_the_accounts_no_file_counts_as_gone(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "open", tree.at("/etc/passwd"), errno.EACCES)
    seen = tree.scheduled()
    assert seen.blind == ["/etc/passwd cannot be read: Permission denied."]
    assert seen.is_unseen("/home/ada/.config/systemd/user/x.timer")
