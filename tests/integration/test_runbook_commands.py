# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every command that the runbooks and guides tell people to type would be taken by the program that it names."""

from __future__ import annotations

import pytest
from lab.documented import ROOT, UNCHECKED, Command, MissingProgramError, commands, pages, problems, programs

COMMANDS = [one for page in pages() for one in commands(page.read_text(), str(page.relative_to(ROOT)))]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: f"{one.page}:{one.line}")
def test_it_would_be_taken(command: Command) -> None:
    try:
        found = problems(command.text)
    except MissingProgramError as missing:
        pytest.skip(f"{command}: {missing}")
    assert found == [], str(command)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ansible-playbook playbooks/recover-everything.yml", "could not be found"),
        ("ansible-playbook playbooks/recover-vault.yml --chek", "unrecognized arguments"),
        ("ansible-playbook playbooks/recover-vault.yml -e vault_recovery_snapshto=latest", "vault_recovery_snapshto"),
        ("""ansible-playbook playbooks/recover-vault.yml -e '{"vault_recovery_node": []}'""", "vault_recovery_node "),
        ("ansible-playbook playbooks/dr-drill.yml --tags vault,lgos", "the tag lgos"),
        ("ansible localhost -m custodes.security_dr.drill_repotr -a folder=/x", "no module"),
        ("ansible localhost -m custodes.security_dr.drill_report -a 'folder=/x htlm=/y'", "no option htlm"),
        ("ansible localhost -m custodes.security_dr.drill_report -a html=/y", "needs folder"),
        ("ansible-doc -t role custodes.security_dr.vault_recovrey", "vault_recovrey"),
        ("custodes detect --lst", "unrecognized arguments"),
        ("custodes restore", "invalid choice"),
        ("vault operator raft autopilot sate", "no sub-command"),
        ("vault operator raft snapshot inspect -fromat=json FILE", "no option -fromat"),
        ("promtool chekc config FILE", "no sub-command chekc"),
        ("amtool alert query --activ", "no option --activ"),
        ("systemctl restrat vault", "no command restrat"),
        ("journalctl -u vault --lines-of 3", "no option --lines-of"),
        ("curl --insecur https://NODE:8200", "no option --insecur"),
        ("openssl x509 -subjct -in FILE", "no option -subjct"),
        ("openssl x508 -in FILE", "no command x508"),
        ("journalctl -u vault | gerp seal", "gerp: no test knows this program"),
    ],
)
def test_what_does_not_exist_is_found(text: str, why: str) -> None:
    try:
        found = problems(text)
    except MissingProgramError as missing:
        pytest.skip(str(missing))
    assert why in " ".join(found)


def test_what_nobody_checks_is_in_use() -> None:
    used = {name for command in COMMANDS for name in programs(command.text)}
    assert set(UNCHECKED) - used == set()
