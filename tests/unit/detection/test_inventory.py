# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files become items whatever they are, and none of them can hold, break or mislead the scan."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import inventory
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.inventory import (
    Inventory,
    Item,
    Reader,
    empty,
    merge,
)
from hypothesis import given
from hypothesis import strategies as st
from unit.detection.tree import Tree

RULE = "schedule.cron"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def look(tree: Tree, path: str, **options: Any) -> Item:
    into = empty()
    tree.reader().file(into, path, RULE, **options)
    assert into.blind == []
    (item,) = into.items.values()
    return item


def listed(tree: Tree, path: str) -> Inventory:
    into = empty()
    tree.reader().folder(into, path, RULE)
    return into


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, path: Path, code: int) -> None:
    """Makes a function of os fail for one path."""
    real: Callable[..., Any] = getattr(os, name)

    def refusing(given: Any, *rest: Any, **more: Any) -> Any:
        if given == str(path):
            raise OSError(code, os.strerror(code), given)
        return real(given, *rest, **more)

    monkeypatch.setattr(os, name, refusing)


def swap_after_the_look(monkeypatch: pytest.MonkeyPatch, path: Path, make: Callable[[Path], None]) -> None:
    """Puts something else in the place of a file, right after it was looked at."""
    real = os.lstat

    def swap(given: Any, **more: Any) -> os.stat_result:
        status = real(given, **more)
        if given == str(path):
            path.unlink()
            make(path)
        return status

    monkeypatch.setattr(os, "lstat", swap)


@pytest.mark.parametrize("size", [0, 1, 5000, inventory._CHUNK - 1, inventory._CHUNK, inventory._CHUNK + 1, 300_000])
def test_a_file_is_its_content_owner_and_mode(tree: Tree, size: int) -> None:
    tree.file("/etc/x", b"x" * size, 0o4750)
    assert look(tree, "/etc/x") == Item(RULE, "file", sha(b"x" * size), os.getuid(), os.getgid(), 0o4750, "")


def test_of_a_huge_file_the_beginning_is_hashed_and_the_size_counts(tree: Tree) -> None:
    with tree.file("/etc/x").open("r+b") as file:
        file.truncate(2**40)
    item = look(tree, "/etc/x")
    assert item.sha256 == sha(bytes(inventory.HASHED))
    assert item.note == f"{2**40} bytes, the first {inventory.HASHED} hashed"
    tree.file("/etc/y", bytes(inventory.HASHED))
    assert look(tree, "/etc/y").note == ""


def test_the_bytes_hashed_in_a_run_are_bounded(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "MOST_HASHED", 1000)
    for name in "abcd":
        tree.file(f"/etc/cron.d/{name}", b"x" * 400)
    seen = listed(tree, "/etc/cron.d")
    assert seen.blind == ["There are more than 1000 bytes to hash; the rest was not looked at."]
    files = {path for path, item in seen.items.items() if item.kind == "file"}
    assert len(files) == 2
    assert all(path in files or seen.is_unseen(path) for path in (f"/etc/cron.d/{name}" for name in "abcd"))


def test_what_grows_while_it_is_read_comes_to_an_end(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.file("/etc/x", b"x")
    monkeypatch.setattr(os, "read", lambda _handle, size: b"y" * size)
    assert look(tree, "/etc/x").sha256 == sha(b"y" * inventory.HASHED)


def test_what_is_no_file_is_an_item_and_is_not_opened(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tree.folder("/etc/cron.d")
    os.mkfifo(folder / "fifo")
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    tree.link("/etc/cron.d/null", "/dev/null")
    tree.link("/etc/cron.d/tofifo", "fifo")
    monkeypatch.setattr(os, "open", lambda *_arguments: pytest.fail("opened"))
    seen = {name.rpartition("/")[2]: item for name, item in listed(tree, "/etc/cron.d").items.items()}
    assert {name: (item.kind, item.sha256) for name, item in seen.items()} == {
        "cron.d": ("folder", ""),
        "fifo": ("fifo", ""),
        "socket": ("socket", ""),
        "null": ("link", ""),
        "tofifo": ("link", ""),
    }


def test_what_becomes_a_fifo_between_the_look_and_the_opening_is_not_waited_for(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tree.file("/etc/x", "text")
    swap_after_the_look(monkeypatch, path, os.mkfifo)
    item = look(tree, "/etc/x")
    assert (item.kind, item.sha256) == ("fifo", "")


def test_what_becomes_a_link_between_the_look_and_the_opening_is_not_followed(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tree.file("/etc/x", "text")
    swap_after_the_look(monkeypatch, path, lambda path: path.symlink_to("passwd"))
    into = empty()
    tree.reader().file(into, "/etc/x", RULE)
    assert into == empty()


def test_a_link_is_its_target_and_what_stands_there(tree: Tree) -> None:
    tree.file("/opt/job", "evil", 0o700)
    tree.link("/etc/cron.d/x", "/opt/job")
    item = look(tree, "/etc/cron.d/x")
    assert (item.kind, item.sha256, item.mode, item.note) == ("link", sha(b"evil"), 0o700, "/opt/job")
    item = look(tree, "/etc/cron.d/x", follow=False)
    assert (item.kind, item.sha256, item.note) == ("link", "", "/opt/job")


@pytest.mark.parametrize("target", ["self", "missing", "/etc/passwd/below", "../../../../..", "x/" * 2000])
def test_a_link_that_leads_nowhere_is_an_item(tree: Tree, target: str) -> None:
    tree.link("/etc/cron.d/self", target)
    item = look(tree, "/etc/cron.d/self")
    assert (item.kind, item.sha256, item.note) == ("link", "", target)


def test_links_in_the_way_are_resolved_within_the_root(tree: Tree) -> None:
    tree.file("/usr/lib/systemd/a.d/x", "content")
    tree.link("/lib", "usr/lib")
    tree.link("/usr/lib/here", "/lib/systemd/./b/../a.d")
    tree.folder("/usr/lib/systemd/b")
    reader = tree.reader()
    assert reader.real("/lib/here/x") == "/usr/lib/systemd/a.d/x"
    assert reader.real("/../..//lib/") == "/usr/lib"
    assert reader.real("/") == "/"
    assert list(listed(tree, "/lib/here").items) == ["/usr/lib/systemd/a.d", "/usr/lib/systemd/a.d/x"]


def test_a_path_of_many_links_ends(tree: Tree) -> None:
    tree.link("/a", "b")
    tree.link("/b", "a")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        tree.reader().real("/a/x")
    assert listed(tree, "/a") == empty()


def test_nothing_there_is_no_item_and_no_blind_spot(tree: Tree) -> None:
    assert listed(tree, "/etc/none") == empty()
    assert listed(tree, "/etc/passwd") == empty()


def test_what_vanishes_after_the_listing_is_not_there(tree: Tree) -> None:
    path = tree.file("/etc/cron.d/x")
    reader, into = tree.reader(), empty()
    place, (entry,) = reader.entries(into, "/etc/cron.d")
    path.unlink()
    reader.entry(into, f"{place}/x", entry, RULE)
    assert into == empty()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_what_cannot_be_read_is_a_blind_spot(tree: Tree, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    path = tree.file("/etc/cron.d/x")
    refuse(monkeypatch, "open", path, code)
    seen = listed(tree, "/etc/cron.d")
    assert seen.blind == [f"/etc/cron.d/x cannot be read: {os.strerror(code)}."]
    assert list(seen.items) == ["/etc/cron.d"]
    assert seen.is_unseen("/etc/cron.d/x")
    assert not seen.is_unseen("/etc/cron.d/y")


def test_a_folder_that_cannot_be_listed_is_unseen_with_all_below(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "scandir", tree.folder("/etc/cron.d"), errno.EACCES)
    seen = listed(tree, "/etc/cron.d")
    assert seen.blind == ["/etc/cron.d cannot be read: Permission denied."]
    assert seen.is_unseen("/etc/cron.d/x/y")
    assert not seen.is_unseen("/etc/cron.data")


def test_folders_have_bounds(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        tree.file(f"/etc/cron.d/{number}")
    monkeypatch.setattr(inventory, "MOST_ENTRIES", 3)
    seen = listed(tree, "/etc/cron.d")
    assert len(seen.items) == 1 + 3
    assert seen.blind == ["/etc/cron.d holds more than 3 entries; the rest was not looked at."]
    assert seen.is_unseen("/etc/cron.d/4")
    monkeypatch.setattr(inventory, "MOST_LISTED", 3)
    monkeypatch.setattr(inventory, "ROOT", -1)
    reader, into = tree.reader(), empty()
    reader.folder(into, "/etc/cron.d", RULE)
    reader.folder(into, "/etc", RULE)
    assert "There are more than 3 entries; the rest was not looked at." in into.blind
    assert into.is_unseen("/etc/passwd")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("bound", ["MOST_HASHED", "MOST_LISTED"])
def test_no_user_keeps_it_from_looking_at_what_is_root_s(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(inventory, bound, 60)
    tree.file("/usr/bin/big", b"x" * 50)
    for number in range(40):
        os.lchown(tree.link(f"/home/ada/.config/systemd/user/{number}.service", "/usr/bin/big"), 1000, 1000)
        os.chown(tree.file(f"/home/ada/.config/systemd/user/{number}.service.d/x.conf").parent, 1000, 1000)
    for path in ("/etc/ld.so.preload", "/etc/sudoers.d/x", "/root/.ssh/authorized_keys", "/usr/bin/su"):
        tree.file(path, b"x", 0o4755)
    seen = tree.everything()
    assert "the rest was not looked at" in seen.blind[0]
    assert {"/etc/ld.so.preload", "/etc/sudoers.d/x", "/root/.ssh/authorized_keys", "/usr/bin/su"} <= set(seen.items)


MOUNTS = """\
22 1 254:0 / / rw - nfs4 server:/root rw
23 22 0:1 / /home rw,relatime shared:1 - nfs4 server:/home rw
24 22 0:2 / /mnt/a\\040b rw - cifs //server/share rw
25 22 0:3 / /srv rw - ext4 /dev/sdb rw
26 22 0:3 / /root/.ssh rw - fuse.sshfs x rw
"""


@pytest.fixture
def mounted(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """With servers that are dead: to look there is to hang."""
    tree.file("/proc/self/mountinfo", MOUNTS)
    tree.folder("/mnt/a b")
    for name in ("lstat", "open", "scandir", "readlink"):
        real = getattr(os, name)

        def hang(path: Any, *rest: Any, real: Any = real, **more: Any) -> Any:
            if str(path).startswith((str(tree.at("/home")), str(tree.at("/mnt/a b")), str(tree.at("/root/.ssh")))):
                pytest.fail(f"would hang at {path}")
            return real(path, *rest, **more)

        monkeypatch.setattr(os, name, hang)
    return tree


def test_network_file_systems_are_not_touched_and_said_once(mounted: Tree) -> None:
    mounted.link("/etc/cron.d/x", "/mnt/a b/y")
    mounted.link("/etc/cron.d/z", "../../home/ada/z")
    seen = mounted.everything()
    assert sorted(seen.blind) == [
        "/home was not looked into: it is a network or FUSE file system (nfs4).",
        "/mnt/a b was not looked into: it is a network or FUSE file system (cifs).",
        "/root/.ssh was not looked into: it is a network or FUSE file system (fuse.sshfs).",
    ]
    for path in ("/home/ada/.bashrc", "/etc/cron.d/x", "/etc/cron.d/z", "/root/.ssh/authorized_keys"):
        assert seen.is_unseen(path)
    assert "/etc/cron.d" in seen.items


def test_what_is_skipped_on_purpose_is_unseen_and_no_blind_spot(mounted: Tree) -> None:
    seen = mounted.persistence(skip=("/home/", "/root/.ssh"))
    assert seen.blind == []
    assert seen.is_unseen("/home/ada/.bashrc")


def test_names_of_any_bytes_are_kept_and_blind_spots_stay_one_line(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.fsdecode(b"a\xff\n\x1b[31m")
    path = tree.file(f"/etc/cron.d/{name}")
    assert f"/etc/cron.d/{name}" in listed(tree, "/etc/cron.d").items
    refuse(monkeypatch, "open", path, errno.EACCES)
    assert listed(tree, "/etc/cron.d").blind == ["/etc/cron.d/a\\xff\\x0a\\x1b[31m cannot be read: Permission denied."]


def test_inventories_are_merged_and_the_first_has_its_say() -> None:
    one, other = empty(), empty()
    one.items["/a"] = Item("schedule.cron", "file", "1", 0, 0, 0)
    other.items.update({"/a": one.items["/a"]._replace(rule="persistence.setuid"), "/b": one.items["/a"]})
    one.add_blind("/x", "same")
    other.add_blind("/y", "same")
    whole = merge(one, other)
    assert (whole.items["/a"].rule, set(whole.items)) == ("schedule.cron", {"/a", "/b"})
    assert (whole.blind, whole.unseen) == (["same"], {"/x", "/y"})


def test_what_is_computed_once_is_kept_by_its_reader(tree: Tree) -> None:
    calls: list[Reader] = []
    reader = tree.reader()
    assert reader.once(calls.append) is None
    assert reader.once(calls.append) is None
    assert calls == [reader]


@given(st.lists(st.sampled_from(["", ".", "..", "etc", "self", "up", "passwd", "\udcff", "x" * 300]), max_size=30))
def test_a_real_path_has_no_links_and_is_within_the_root(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    base = tmp_path_factory.getbasetemp() / "real"
    tree = Tree(base / "root")
    if not tree.at("/etc/up").is_symlink():
        tree.link("/etc/self", ".")
        tree.link("/etc/up", "../../../../etc")
    with suppress(OSError):
        found = tree.reader().real("/" + "/".join(names))
        assert os.path.realpath(tree.at(found)) == str(tree.at(found)).rstrip("/")
