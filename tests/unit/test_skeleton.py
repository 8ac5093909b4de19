# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the collection to its own rules: what is documented, what exists, and who imports whom."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.modules import __path__ as builtin_modules
from ansible.playbook.task import Task
from ansible.plugins.action import __path__ as builtin_actions

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"
COLLECTION = "custodes.security_dr"

MODULE_LINES = 250
MAIN_LINES = 40
CORE_LINES = 400


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py") if path.name != "__init__.py")


MODULES = [path for path in python_files("plugins/modules") if not path.name.startswith("_")]
CORES = python_files("plugins/module_utils")
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))

each_module = pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
each_core = pytest.mark.parametrize("core", CORES, ids=lambda path: str(path.relative_to(PLUGINS / "module_utils")))
each_plugin = pytest.mark.parametrize(
    "plugin", python_files("plugins"), ids=lambda path: str(path.relative_to(PLUGINS))
)


def parse(path: Path) -> ast.Module:
    """Parse as the oldest Python that hosts may have would."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 9))


def literal(path: Path, name: str) -> Any:
    """Give the YAML that a file assigns to `name`, at its top or in a class of it."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets):
            return yaml.safe_load(ast.literal_eval(node.value))
    pytest.fail(f"{path.relative_to(ROOT)} has no {name}")


def imports(path: Path) -> set[str]:
    """Name what a file imports by absolute names."""
    found: set[str] = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
    return found


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def fragments(module: Path) -> list[str]:
    """Name the documentation fragments of our own that a module uses, without the collection's name."""
    used = literal(module, "DOCUMENTATION").get("extends_documentation_fragment", [])
    names = [used] if isinstance(used, str) else used
    return [name.removeprefix(f"{COLLECTION}.") for name in names if name.startswith(f"{COLLECTION}.")]


def options(module: Path) -> dict[str, Any]:
    """Give the documented options of a module, those of its fragments included."""
    documented = dict(literal(module, "DOCUMENTATION").get("options") or {})
    for fragment in fragments(module):
        name, _dot, part = fragment.partition(".")
        text = literal(PLUGINS / "doc_fragments" / f"{name}.py", part.upper() or "DOCUMENTATION")
        documented.update(text.get("options") or {})
    return documented


def tasks(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Walk through tasks, into the blocks and the plays."""
    for entry in entries:
        nested = [
            key for key in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers") if key in entry
        ]
        for key in nested:
            yield from tasks(entry[key])
        if not nested:
            yield entry


def exists(name: str) -> bool:
    if name.startswith(f"{COLLECTION}."):
        return (PLUGINS / "modules" / f"{name.removeprefix(f'{COLLECTION}.')}.py").is_file()
    if name.startswith("ansible.builtin."):
        short = name.removeprefix("ansible.builtin.")
        return any(Path(folder, f"{short}.py").is_file() for folder in [*builtin_modules, *builtin_actions])
    return False


def test_there_is_something_to_hold_to_the_rules() -> None:
    assert MODULES
    assert CORES
    assert PLAYBOOKS


def test_the_action_group_holds_the_modules_with_the_connection_options() -> None:
    group = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text(encoding="utf-8"))["action_groups"]["vault"]
    connecting = {path.stem for path in MODULES if any(name == "connection" for name in fragments(path))}
    assert set(group) == connecting
    assert group == sorted(set(group))


@pytest.mark.parametrize("playbook", [path for path in PLAYBOOKS if "-" in path.stem], ids=lambda path: path.name)
def test_a_playbook_can_also_be_run_by_its_qualified_name(playbook: Path) -> None:
    twin = playbook.with_name(playbook.name.replace("-", "_"))
    assert twin.is_file(), (
        f"{COLLECTION}.{playbook.stem} is no Python identifier, so ansible-playbook needs {twin.name}"
    )
    (play,) = yaml.safe_load(twin.read_text(encoding="utf-8"))
    play.pop("name", None)
    assert play == {"ansible.builtin.import_playbook": playbook.name}


@each_module
def test_a_module_documents_itself(module: Path) -> None:
    assert literal(module, "DOCUMENTATION")["module"] == module.stem
    returned = literal(module, "RETURN")
    assert returned
    for name, value in returned.items():
        assert {"description", "returned", "type"} <= set(value), name
        assert "sample" in value or "contains" in value, f"{name} has no sample"


@each_module
def test_the_examples_are_tasks_that_could_run(module: Path) -> None:
    found = list(tasks(literal(module, "EXAMPLES")))
    used = set()
    for task in found:
        assert task.get("name"), task
        (name,) = set(task) - set(Task.fattributes) - {"vars"}
        assert exists(name), f"{name} does not exist, or is not a fully qualified name"
        used.add(name)
        if name.startswith(f"{COLLECTION}."):
            known = options(PLUGINS / "modules" / f"{name.rpartition('.')[2]}.py")
            given = task[name] or {}
            accepted = set(known) | {alias for option in known.values() for alias in option.get("aliases", [])}
            assert set(given) <= accepted, f"{name} has no such option"
            lacking = {option for option, spec in known.items() if spec.get("required")} - set(given)
            assert not lacking, f"{name} needs {lacking}"
    assert f"{COLLECTION}.{module.stem}" in used


@each_module
def test_a_module_is_a_thin_shell(module: Path) -> None:
    assert len(module.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES
    if (ROOT / "plugins" / "action" / module.name).exists():
        return  # its documentation only
    (main,) = [node for node in parse(module).body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    assert main.end_lineno is not None
    assert main.end_lineno - main.lineno + 1 <= MAIN_LINES


@each_core
def test_a_core_can_be_read_in_one_sitting(core: Path) -> None:
    assert len(core.read_text(encoding="utf-8").splitlines()) <= CORE_LINES


@each_core
def test_a_core_knows_nothing_of_ansible(core: Path) -> None:
    found = roots(imports(core))
    assert "ansible_collections" not in found, "relative imports: the agent mounts the package under another name"
    if core != PLUGINS / "module_utils" / "module.py":
        assert "ansible" not in found


@each_plugin
def test_a_plugin_runs_on_python_3_9(plugin: Path) -> None:
    statements = [node for node in parse(plugin).body if isinstance(node, ast.ImportFrom)]
    assert any(node.module == "__future__" and node.names[0].name == "annotations" for node in statements)


def test_the_execution_environment_brings_what_the_plugins_import() -> None:
    listed = (ROOT / "meta" / "ee-requirements.txt").read_text(encoding="utf-8").split()
    # boto3 and requests come with the first two, ansible-core with the others; pyOpenSSL is imported as OpenSSL.
    named = {"pyOpenSSL": "OpenSSL"}
    packages = [re.split(r"[<>=~!]", line)[0] for line in listed]
    brought = {named.get(package, package) for package in packages} | {"botocore", "urllib3", "jinja2", "markupsafe"}
    needed = roots({name for path in python_files("plugins") for name in imports(path)})
    assert needed - {"ansible", "ansible_collections"} - set(sys.stdlib_module_names) <= brought


def test_ansible_test_ignores_nothing() -> None:
    assert not list((ROOT / "tests" / "sanity").glob("ignore*"))


@pytest.mark.parametrize("path", python_files("plugins", "tests"), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_names_its_licence(path: Path) -> None:
    head = path.read_text(encoding="utf-8").splitlines()[:5]
    assert "# SPDX-License-Identifier: GPL-3.0-or-later" in head


@pytest.mark.parametrize("role", sorted(path.name for path in (ROOT / "roles").iterdir()))
def test_an_option_of_the_command_line_is_no_longer_a_text_where_it_decides(role: str) -> None:
    """`-e NAME=false` is the text "false", which is true."""
    folder = ROOT / "roles" / role
    entries = yaml.safe_load((folder / "meta/argument_specs.yml").read_text())["argument_specs"].values()
    options = {name: option for entry in entries for name, option in entry["options"].items()}
    names = "|".join(name for name, option in options.items() if option["type"] == "bool")
    if not names:
        return
    # A module's option is converted by the module: there the name stands alone.
    bare = re.compile(rf"(?<![\w'])({names})\b(?! \| bool\b)")
    found = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in sorted([*folder.glob("tasks/*.yml"), *folder.glob("vars/*.yml"), *folder.glob("templates/*")])
        for line in file.read_text().splitlines()
        if bare.search(line) and not re.fullmatch(rf' *\w+: "{{{{ ({names}) }}}}"', line)
    ]
    assert found == []


@pytest.mark.parametrize("path", sorted((ROOT / "playbooks").glob("*-*.yml")), ids=lambda path: path.name)
def test_a_play_of_several_hosts_does_not_rest_on_the_configured_strategy(path: Path) -> None:
    """With ANSIBLE_STRATEGY=free each host goes its own way: rolling restarts would overlap."""
    for play in yaml.safe_load(path.read_text(encoding="utf-8")):
        if play.get("hosts", "localhost") != "localhost":
            assert play.get("strategy") == "ansible.builtin.linear", play["name"]
