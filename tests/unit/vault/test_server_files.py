# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the files of a Vault server get onto its host: checked by Vault and systemd, then written."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.errors import VaultConfigError
from ansible_collections.custodes.security_dr.plugins.module_utils.vault.server_files import (
    STAGE,
    Account,
    Certificate,
    Folder,
    Outcome,
    ServerFiles,
    Text,
    Wanted,
    account,
    octal,
    problems,
)

KEY = "-----BEGIN PRIVATE KEY-----\ns3cret-key\n"
SECRET = 'AWS_SECRET_ACCESS_KEY="s3cret"\n'
DIAGNOSED = """\
[ success ] Parse Configuration
[ warning ] \x1b[33mCheck HCP link: failure ] HCP link: HCP link check will not run\x1b[0m
[ \x1b[31mfailure ] Create Vault Server Configuration Seals: error encrypting: NotFoundException.\x1b[0m
Unknown or unsupported field lisstener found in configuration at STAGE/vault.hcl:3:1
"""


class Host:
    """A host in a folder, whose Vault and systemd answer as they are told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.diagnosed = (0, "", "")
        self.verified = (0, "", "")
        self.asked: list[list[str]] = []
        self.staged: dict[str, tuple[str, int]] = {}
        (root / "vault").touch()
        self.user = Account("vault", os.geteuid(), os.getegid())

    def path(self, name: str) -> str:
        return str(self.root / name)

    def run(self, command: Sequence[str]) -> tuple[int, str, str]:
        self.asked.append(list(command))
        if command[0] == "systemd-analyze":
            assert Path(command[-1]).read_text() == "[Unit]\n"
            return self.verified
        stage = Path(command[-1].removeprefix("-config=")).parent
        self.staged = {
            file.name: (file.read_text() if file.is_file() else "", stat.S_IMODE(file.stat().st_mode))
            for file in stage.iterdir()
        }
        code, out, err = self.diagnosed
        return code, out.replace("STAGE", str(stage)), err

    def files(self, *, check: bool = False, **changed: str) -> ServerFiles:
        folders = [Folder(self.path("etc"), 0o755, False), Folder(self.path("etc/tls"), 0o750, False)]
        certificates = [
            Certificate("ca.pem", self.path("etc/ca.pem"), "authority\n", 0o644),
            Certificate("server.key", self.path("etc/tls/server.key"), changed.get("key", KEY), 0o640),
        ]
        wanted = Wanted(
            program=self.path("vault"),
            user=self.user,
            folders=[*folders, Folder(self.path("data"), 0o700, True)],
            certificates=certificates,
            environment=Text(self.path("etc/vault.env"), SECRET),
            config=Text(self.path("etc/vault.hcl"), changed.get("config", "ui = false\n")),
            trial=f'path = "{STAGE}/data"\n',
            unit=Text(self.path("vault.service"), "[Unit]\n"),
        )
        return ServerFiles(wanted, self.run, (os.geteuid(), os.getegid()), check=check)

    def apply(self, *, check: bool = False, **changed: str) -> Outcome:
        return self.files(check=check, **changed).apply()

    def tree(self) -> dict[str, int]:
        found = sorted(path for path in self.root.rglob("*") if path.name != "vault")
        return {str(path.relative_to(self.root)): stat.S_IMODE(path.stat().st_mode) for path in found}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "host").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return Host(tmp_path / "host")


def names(host: Host, outcome: Outcome) -> list[str]:
    return [os.path.relpath(path, host.root) for path in outcome.changed]


EVERYTHING = ["etc", "etc/tls", "data", "etc/ca.pem", "etc/tls/server.key", "etc/vault.env", "etc/vault.hcl"]


def test_check_run_check_again_run_again(host: Host) -> None:
    foretold = host.apply(check=True)
    assert host.tree() == {}
    done = host.apply()
    assert foretold == done
    assert names(host, done) == [*EVERYTHING, "vault.service"]
    assert host.tree() == {
        "data": 0o700,
        "etc": 0o755,
        "etc/ca.pem": 0o644,
        "etc/tls": 0o750,
        "etc/tls/server.key": 0o640,
        "etc/vault.env": 0o600,
        "etc/vault.hcl": 0o640,
        "vault.service": 0o644,
    }
    for check in (True, False):
        assert host.apply(check=check) == Outcome([], [])


def test_vault_checks_all_of_it_as_its_user_and_nothing_is_left(host: Host) -> None:
    host.apply(check=True)
    assert {name: mode for name, (_text, mode) in host.staged.items()} == {
        "data": 0o700,
        "ca.pem": 0o640,
        "server.key": 0o640,
        "vault.hcl": 0o640,
        "vault.env": 0o600,
    }
    (diagnose, verify) = host.asked
    stage = str(Path(verify[-1]).parent)
    assert host.staged["vault.hcl"][0] == f'path = "{stage}/data"\n'
    assert host.staged["vault.env"][0] == SECRET
    assert {"--uid=vault", f"--property=EnvironmentFile={stage}/vault.env"} <= set(diagnose)
    assert diagnose[diagnose.index("--") + 1 :][:3] == [host.path("vault"), "operator", "diagnose"]
    assert "s3cret" not in str(host.asked)
    assert list((host.root.parent / "tmp").iterdir()) == []


def test_an_unchanged_configuration_is_checked_with_the_program_that_may_be_new(host: Host) -> None:
    host.apply()
    host.asked.clear()
    host.apply()
    assert [command[0] for command in host.asked] == ["systemd-run"]


@pytest.mark.parametrize(("code", "out"), [(1, DIAGNOSED), (0, DIAGNOSED), (2, DIAGNOSED)])
def test_a_configuration_that_vault_refuses(host: Host, code: int, out: str) -> None:
    host.apply()
    before = host.tree()
    host.diagnosed = (code, out, "")
    with pytest.raises(VaultConfigError) as refused:
        host.apply(config="ui = true\n", key="another key\n")
    assert str(refused.value) == (
        f"Vault refuses the new configuration {host.path('etc/vault.hcl')}: [ failure ] Create Vault Server "
        "Configuration Seals: error encrypting: NotFoundException; Unknown or unsupported field lisstener found in "
        "configuration at STAGE/vault.hcl:3:1. The configuration that is in use was not touched."
    )
    assert host.tree() == before
    assert (host.root / "etc/vault.hcl").read_text() == "ui = false\n"
    assert list((host.root.parent / "tmp").iterdir()) == []


def test_what_vault_says_is_shown_where_it_names_no_check(host: Host) -> None:
    host.diagnosed = (127, "", "vault: cannot execute binary file\n")
    with pytest.raises(VaultConfigError, match=r"vault.hcl: vault: cannot execute binary file\. The configuration"):
        host.apply()


def test_warnings_alone_refuse_nothing(host: Host) -> None:
    host.diagnosed = (2, "[ warning ] Check Raft Folder: a folder\n", "")
    assert host.apply().changed


def test_a_unit_that_systemd_refuses(host: Host) -> None:
    host.verified = (1, "", "vault.service: Unknown key")
    with pytest.raises(VaultConfigError, match=r"systemd refuses the new unit: .*Unknown key Nothing was changed"):
        host.apply()
    assert host.tree() == {}


@pytest.mark.parametrize("absent", ["program", "user"])
def test_before_the_installation_nothing_can_be_checked(host: Host, absent: str) -> None:
    if absent == "program":
        (host.root / "vault").unlink()
    else:
        host.user = Account("vault", -1, -1)
    assert names(host, host.apply(check=True)) == [*EVERYTHING, "vault.service"]
    assert host.asked == []


def test_the_diff_shows_no_secret(host: Host) -> None:
    host.apply()
    done = host.apply(check=True, config="ui = true\n", key="another key\n")
    assert names(host, done) == ["etc/tls/server.key", "etc/vault.hcl"]
    assert [(one["before"], one["after"]) for one in done.diff] == [
        ("(hidden)\n", "(hidden)\nnew\n"),
        ("ui = false\n", "ui = true\n"),
    ]


def test_modes_are_repaired(host: Host) -> None:
    host.apply()
    (host.root / "data").chmod(0o755)
    (host.root / "etc/vault.env").chmod(0o644)
    assert names(host, host.apply()) == ["data", "etc/vault.env"]
    assert (host.tree()["data"], host.tree()["etc/vault.env"]) == (0o700, 0o600)


def test_a_link_in_the_place_of_a_folder_is_refused(host: Host, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o711)
    (host.root / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(VaultConfigError, match=f"Cannot make the folder {host.path('data')}: "):
        host.apply()
    assert stat.S_IMODE((tmp_path / "elsewhere").stat().st_mode) == 0o711


@pytest.mark.parametrize("changed", ["vault", "etc/vault.env", "etc/vault.hcl", "vault.service"])
def test_what_is_newer_than_the_start(host: Host, changed: str) -> None:
    files = host.files()
    files.apply()
    started, file = host.root / "started", host.root / changed
    assert files.newer_than(str(started)), "Vault was never started"
    started.touch()
    others = max(path.stat().st_ctime for path in host.root.rglob("*"))
    os.utime(started, (others, others))
    assert not files.newer_than(str(started))
    while file.stat().st_ctime <= others:
        file.chmod(stat.S_IMODE(file.stat().st_mode))
    assert files.newer_than(str(started))


def test_a_start_that_the_user_of_vault_could_have_dated_counts_for_nothing(host: Host) -> None:
    files = host.files()
    files.apply()
    started = host.root / "started"
    started.touch()
    os.utime(started, (2**31, 2**31))
    assert not files.newer_than(str(started))
    files._root = (os.geteuid() + 1, 0)
    assert files.newer_than(str(started))


def test_the_unit_touches_the_file_as_root_outside_of_the_folders_of_vault() -> None:
    role = Path(__file__).resolve().parents[3] / "roles/vault_server"
    unit = (role / "templates/vault.service.j2").read_text()
    started = yaml.safe_load((role / "vars/main.yml").read_text())["__vault_server_started_file"]
    assert "ExecStartPre=+/usr/bin/touch {{ __vault_server_started_file }}\n" in unit
    assert Path(started).parent == Path("/run")


def test_certificates_are_read_by_a_reload_and_take_no_restart(host: Host) -> None:
    files = host.files()
    files.apply()
    started = host.root / "started"
    started.touch()
    now = max(path.stat().st_ctime for path in host.root.rglob("*")) + 10
    os.utime(started, (now, now))
    host.apply(key="another key\n")
    assert not files.newer_than(str(started))


@pytest.mark.parametrize(("mode", "bits"), [("0640", 0o640), ("755", 0o755)])
def test_modes(mode: str, bits: int) -> None:
    assert octal(mode) == bits


@pytest.mark.parametrize("mode", ["", "u=rw", "0999", "4755", "-1", "0o640"])
def test_what_is_not_a_mode(mode: str) -> None:
    with pytest.raises(VaultConfigError, match="give octal digits"):
        octal(mode)


def test_an_account_that_does_not_exist() -> None:
    assert account("no-such-user", check=True) == Account("no-such-user", -1, -1)
    with pytest.raises(VaultConfigError, match="no user no-such-user"):
        account("no-such-user")


def test_problems_of_a_good_configuration() -> None:
    assert problems("[ success ] Parse Configuration\n[ warning ] HCP link: failure ] HCP link: x\n") == []
