# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How command lines are found in a page. Whether they are taken: tests/integration/test_runbook_commands.py."""

from __future__ import annotations

import pytest
from lab.documented import commands, problems, programs

PAGE = """\
Type `vault status`, then `custodes detect
--last`; `custodes detect` is a name, and `make sure` are words.

```console
$ ansible-playbook a.yml \\
    -e b=c    # it's a comment
ok: [localhost]
# systemctl status vault
#no prompt
```

   ```bash
   curl -s http://h/#anchor | jq .
   ```

```yaml
# vault status
```

```
vault version
```
"""


def test_what_is_a_command_and_what_is_not() -> None:
    assert {(one.line, one.text) for one in commands(PAGE)} == {
        (1, "vault status"),
        (1, "custodes detect --last"),
        (5, "ansible-playbook a.yml -e b=c    # it's a comment"),
        (8, "systemctl status vault"),
        (13, "curl -s http://h/#anchor | jq ."),
        (21, "vault version"),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a -x | b 'c | d' && e; f", ["a", "b", "e", "f"]),
        ("sudo VAR=x a b=c </dev/null | d > file", ["a", "d"]),
        ("a --c  # it's | no command", ["a"]),
        ("""a '{"b": ["c"]}'""", ["a"]),
    ],
)
def test_each_program_of_a_pipe(text: str, expected: list[str]) -> None:
    assert programs(text) == expected


@pytest.mark.parametrize("text", ["rm -rf /", "grep x | nosuch"])
def test_a_program_that_nobody_checks_is_a_problem(text: str) -> None:
    assert ["no test knows this program" in problem for problem in problems(text)] == [True]


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("custodes snapshot --once --accept-flagged", False),
        ("custodes detect --json", False),
        ("custodes detect --once", True),
        ("custodes watchdog", True),
    ],
)
def test_the_agents_commands(text: str, bad: bool) -> None:
    assert bool(problems(text)) is bad
