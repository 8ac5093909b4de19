# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run modules against real servers, in the test's process or through ansible-playbook -vvv, and find leaked secrets.

A module behaves alike in both, but a run of ansible-playbook takes some seconds of CPU time. So only these are tested
through it: that a module's payload is complete (test_module_payloads.py), and that hidden results stay hidden.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import ansible_collections.custodes.security_dr as collection
import yaml
from ansible.module_utils.testing import patch_module_args
from lab.pki import write_private

Result = dict[str, Any]

_COLLECTION = "custodes.security_dr"
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
    name = module if "." in module else f"{_COLLECTION}.{module}"
    return Task(name, options, {"check_mode": check, "no_log": no_log, "ignore_errors": True})


@cache
def _speak_to_vault() -> frozenset[str]:
    """Name the modules of the action group to which a play gives how to reach Vault."""
    root = Path(next(iter(collection.__path__)))
    return frozenset(yaml.safe_load((root / "meta" / "runtime.yml").read_text())["action_groups"]["vault"])


def four_runs(module: str, *, no_log: bool = False, **options: Any) -> list[Task]:
    """Check, run, check again, run again."""
    return [task(module, check=check, no_log=no_log, **options) for check in (True, False, True, False)]


@dataclass
class Ansible:
    """Runs tasks in a folder that is their home, their working folder and their only configuration.

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
        """Run the modules in this process, one after the other, and return each one's result.

        `defaults` go to all modules that speak to Vault. Raises LeakError when a secret is in a result that is shown.
        """
        results = []
        with self._environ(env or {}):
            for one in tasks:
                name = one.module.removeprefix(f"{_COLLECTION}.")
                given = {**(defaults if name in _speak_to_vault() else {}), **one.options}
                keywords = {f"_ansible_{keyword}": one.keywords[keyword] for keyword in ("check_mode", "no_log")}
                printed = io.StringIO()
                with patch_module_args({**given, **keywords}), redirect_stdout(printed), suppress(SystemExit):
                    importlib.import_module(f"{collection.__name__}.plugins.modules.{name}").main()
                results.append({"changed": False, **json.loads(printed.getvalue())})
        shown = [json.dumps(result) for one, result in zip(tasks, results, strict=True) if not one.keywords["no_log"]]
        self._check(results, tasks, defaults, "\n".join(shown))
        return results

    def run_by_playbook(
        self,
        tasks: Sequence[Task],
        *,
        env: Mapping[str, str] | None = None,
        typed_failures: bool = True,
        **defaults: Any,
    ) -> list[Result]:
        """Run the tasks in one play of ansible-playbook, as `run` does.

        With `typed_failures` each failure must have an error type of the collection's. Raises LeakError when a secret
        is in the output of ansible-playbook -vvv.
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
        self._check(results if typed_failures else [], tasks, defaults, output)
        assert done.returncode == 0, output
        assert len(results) == len(tasks), output
        return results

    def one(self, module: str, **options: Any) -> Result:
        """Run one module in this process."""
        return self.run([task(module, **options)])[0]

    @contextmanager
    def _environ(self, env: Mapping[str, str]) -> Iterator[None]:
        """Give the modules the environment and the working folder that ansible-playbook gives them."""
        kept = {name: value for name, value in self._environment().items() if not name.startswith("ANSIBLE_")}
        with mock.patch.dict(os.environ, {**kept, **env}, clear=True), chdir(self.home):
            yield

    def _check(
        self, results: Sequence[Result], tasks: Sequence[Task], defaults: Mapping[str, Any], output: str
    ) -> None:
        """Refuse secrets in the output, and failures that are no errors of ours: a bug shows as a traceback."""
        self._refuse_leaks(output, [*(task.options for task in tasks), defaults], results)
        for result in results:
            assert not result.get("failed") or result.get("error_type"), result

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
            raise LeakError(f"{leaked} of {len(secrets)} secrets are in what is shown of the tasks")


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
