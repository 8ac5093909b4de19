# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs tasks for real, through ansible-playbook at -vvv, and looks for secrets in all that it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import ansible_collections.custodes.security_dr as collection
from lab.pki import write_private

Result = dict[str, Any]

_SECRET_OPTIONS = ("token", "secret_id", "password", "jwt", "key_shares")
_SECRET_RESULTS = ("token", "root_token", "unseal_keys_b64", "recovery_keys_b64", "values")


class LeakError(AssertionError):
    """A secret was in the output. Does not quote it."""


class Task(NamedTuple):
    """One task: a module's name (short for one of the collection), its options, and the keywords of the task."""

    module: str
    options: Mapping[str, Any]
    keywords: Mapping[str, Any]


def task(module: str, *, check: bool = False, no_log: bool = False, **options: Any) -> Task:
    """A task that may fail, as its result then tells."""
    name = module if "." in module else f"custodes.security_dr.{module}"
    return Task(name, options, {"check_mode": check, "no_log": no_log, "ignore_errors": True})


def four_runs(module: str, *, no_log: bool = False, **options: Any) -> list[Task]:
    """Check, run, check again, run again."""
    return [task(module, check=check, no_log=no_log, **options) for check in (True, False, True, False)]


@dataclass
class Ansible:
    """Plays in a folder that is its home, its working folder and its only configuration.

    Attributes:
        home: what `~` is for the modules.
        secrets: what must not show, besides the secret options and results of the tasks themselves.
    """

    home: Path
    secrets: list[str] = field(default_factory=list)

    def run(
        self,
        tasks: Sequence[Task],
        *,
        env: Mapping[str, str] | None = None,
        **defaults: Any,
    ) -> list[Result]:
        """Run the tasks in one play and return each one's result. `defaults` go to all modules that speak to Vault.

        Raises LeakError when a secret is in the output.
        """
        results_file = self.home / "results.json"
        results_file.unlink(missing_ok=True)
        variables = {"options": [task.options for task in tasks], "defaults": defaults}
        write_private(self.home / "variables.json", json.dumps(variables).encode())
        (self.home / "play.json").write_text(json.dumps([self._play(tasks, defaults, results_file)], indent=2))
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-vvv", "-i", "localhost,"]
        done = subprocess.run(
            [*command, "-e", f"@{self.home / 'variables.json'}", str(self.home / "play.json")],
            cwd=self.home,
            env={**self._environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        results: list[Result] = json.loads(results_file.read_text()) if results_file.exists() else []
        self._refuse_leaks(output, [*(task.options for task in tasks), defaults], results)
        assert done.returncode == 0, output
        assert len(results) == len(tasks), output
        for result in results:
            # A bug shows as a traceback; what an operator can mend has a type.
            assert not result.get("failed") or result.get("error_type"), result
        return results

    def one(self, module: str, **options: Any) -> Result:
        """Run one task."""
        return self.run([task(module, **options)])[0]

    def _play(self, tasks: Sequence[Task], defaults: Mapping[str, Any], results_file: Path) -> dict[str, Any]:
        play_tasks = [
            {
                "name": f"Task {number}",
                one.module: {name: f"{{{{ options[{number}]['{name}'] }}}}" for name in one.options},
                "register": f"result_{number}",
                **one.keywords,
            }
            for number, one in enumerate(tasks)
        ]
        registered = ", ".join(f"result_{number}" for number in range(len(tasks)))
        keep = {"content": f"{{{{ [{registered}] | to_json }}}}", "dest": str(results_file)}
        return {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "module_defaults": {
                "group/custodes.security_dr.vault": {name: f"{{{{ defaults['{name}'] }}}}" for name in defaults}
            },
            "tasks": [*play_tasks, {"name": "Keep the results", "keep_results": keep, "no_log": True}],
        }

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "LC_ALL": "C.UTF-8",
            "HOME": str(self.home),
            "ANSIBLE_HOME": str(self.home / "ansible"),
            "ANSIBLE_COLLECTIONS_PATH": str(Path(next(iter(collection.__path__))).parents[2]),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_ACTION_PLUGINS": str(Path(__file__).with_name("action_plugins")),
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_NOCOLOR": "true",
        }

    def _refuse_leaks(self, output: str, options: Iterable[Mapping[str, Any]], results: Iterable[Result]) -> None:
        secrets = set(self.secrets)
        for one in options:
            secrets.update(_texts(one.get(name) for name in _SECRET_OPTIONS))
        secrets.update(_found(results))
        leaked = sum(secret in output for secret in secrets if secret)
        if leaked:
            raise LeakError(f"{leaked} of {len(secrets)} secrets are in the output of ansible-playbook -vvv")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(value.values())
    elif isinstance(value, Iterable):
        for item in value:
            yield from _texts(item)


def _found(value: Any) -> Iterator[str]:
    """The secrets in results, at any depth."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name != "invocation":
                yield from _texts(item) if name in _SECRET_RESULTS else _found(item)
    elif isinstance(value, list):
        for item in value:
            yield from _found(item)
