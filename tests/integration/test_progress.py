# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The output of `make demo`: a line for each step of a playbook, and all of Ansible's output where one fails."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lab.playbook import Playbook
from lab.processes import LabError
from lab.progress import Progress

PLAY = """
- name: The play
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Do something
      ansible.builtin.debug:
    - name: Step 1 - Do the work
      ansible.builtin.import_role: {name: work}
    - name: Step 2 - Leave this out
      ansible.builtin.import_role: {name: work}
      when: false
    - name: Step 3 - Include the work
      ansible.builtin.include_role: {name: work}
      vars: {works: "{{ lookup('ansible.builtin.vars', 'third') }}"}
"""
WORK = """
- name: Work
  ansible.builtin.assert:
    that: works | default(true)
    fail_msg: It does not work.
- name: Work more
  ansible.builtin.debug:
"""


@pytest.fixture
def playbook(tmp_path: Path) -> Playbook:
    (tmp_path / "roles" / "work" / "tasks").mkdir(parents=True)
    (tmp_path / "roles" / "work" / "tasks" / "main.yml").write_text(WORK)
    play, inventory = tmp_path / "play.yml", tmp_path / "inventory"
    play.write_text(PLAY)
    inventory.write_text("localhost ansible_connection=local\n")
    return Playbook({"third": True}, tmp_path / "run", inventory, str(play))


def test_each_step_that_does_something_has_a_line(playbook: Playbook, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(2, verbose=False)
    progress.part("One")
    progress.play(playbook)
    lines = [re.sub(r" +\d+\.\d s$", " N s", line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "",
        "[1/2] One",
        f"  $ ansible-playbook -i inventory {playbook.name} -e @run.json",
        "  The play N s",
        "  Step 1 - Do the work N s",
        "  Step 3 - Include the work N s",
    ]


def test_a_failure_shows_all_of_it_and_names_the_task_and_the_reason(
    playbook: Playbook, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = Playbook({"third": False}, playbook.directory, playbook.inventory, playbook.name)
    with pytest.raises(LabError) as caught:
        Progress(1, verbose=False).play(failing)
    assert str(caught.value).endswith("status 2: the task 'Work' failed on localhost:\nIt does not work.")
    shown = capsys.readouterr().out
    assert "  Step 1 - Do the work" in shown
    assert "PLAY RECAP" in shown
    assert "TASK [work : Work]" in shown


def test_verbose_leaves_the_output_to_ansible(playbook: Playbook, capfd: pytest.CaptureFixture[str]) -> None:
    Progress(1, verbose=True).play(playbook)
    shown = capfd.readouterr().out
    assert "TASK [work : Work more]" in shown
    assert "  Step 1 - Do the work  " not in shown
