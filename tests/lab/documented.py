# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command lines of the documentation, and whether the programs would take them: a runbook whose command does not
exist costs the minutes that it was written to save. Nothing of what is documented is run; programs are asked for help.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import yaml
from ansible_collections.custodes.security_dr.plugins.module_utils.agent import cli

from .binaries import vault_binary
from .debian import debian_program

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = "custodes.security_dr."
# Blocks whose lines are all commands; in `console` only those after a prompt are, the rest is what comes back.
_COMMANDS, _CONSOLE = ("", "bash", "sh"), "console"
_PROMPT = re.compile(r"^\s*[$#] (?=\S)")
_INLINE = re.compile(r"`([^`]+)`")
_SEPARATORS = {"|", "||", "&&", ";", "&"}
_VARIABLE = re.compile(r"\b[a-z][a-z0-9]*(?:_[a-z0-9]+)+\b")

# Programs that nobody is asked about, and why not.
UNCHECKED = {
    **dict.fromkeys(("grep", "mv", "tail", "python3"), "on every host, and known to all"),
    "export": "the shell's own",
    "kubectl": "what it takes depends on what the cluster has",
    ".venv/bin/pytest": "who reads this in a test's output has run it",
    "make": "the Makefile's targets are this project's own tests",
    "pip": "it installs this project's requirements",
    "ansible-galaxy": "the artefact's own test runs it",
    "ansible-builder": "not part of the project's environment",
    "ansible-navigator": "not part of the project's environment",
    "ansible-pull": "it needs a repository of the user's",
}


class MissingProgramError(Exception):
    """A program that is not there on this machine, and need not be."""


class Command(NamedTuple):
    """One command line: the page, its line there, and what is typed."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line} {self.text}"


def pages() -> list[Path]:
    """All that tells people what to type."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(text: str, page: str = "") -> list[Command]:
    """The command lines of a page: those of its blocks, and what begins with a known program between backquotes."""
    found = []
    prose = []
    lines = iter(enumerate(text.splitlines(), 1))
    block: str | None = None
    for number, line in lines:
        fence = line.strip().removeprefix("```") if line.strip().startswith("```") else None
        prose.append(line if block is None and fence is None else "")
        if fence is not None:
            block = fence if block is None else None
        elif block in _COMMANDS or (block == _CONSOLE and _PROMPT.match(line)):
            typed = line if block in _COMMANDS else _PROMPT.sub("", line)
            while typed.endswith("\\"):
                typed = typed[:-1] + next(lines, (0, ""))[1].strip()
                prose.append("")
            if _words(typed):
                found.append(Command(page, number, typed.strip()))
    told = "\n".join(prose)
    for inline in _INLINE.finditer(told):
        code = " ".join(inline[1].split())
        if _is_command(code):
            found.append(Command(page, told.count("\n", 0, inline.start()) + 1, code))
    return found


def _is_command(code: str) -> bool:
    first, _space, rest = code.partition(" ")
    # `custodes detect` in a sentence names the command; `pip …` and `make …` may be words.
    return bool(rest) and first in _CHECKS and not re.fullmatch(r"custodes \w+", code)


def _words(text: str) -> list[str]:
    # A comment goes first: its apostrophes quote nothing.
    lexer = shlex.shlex(re.sub(r"(?:^|\s+)#\s.*", "", text), posix=True, punctuation_chars="|&;<>")
    lexer.commenters = ""
    lexer.whitespace_split = True
    return list(lexer)


def _parts(text: str) -> Iterator[list[str]]:
    """The commands between pipes, each without redirections, sudo and variables set for it."""
    part: list[str] = []
    words = iter([*_words(text), ";"])
    for word in words:
        if word in _SEPARATORS:
            if part:
                yield part
            part = []
        elif word in (">", "<", ">>"):
            next(words, None)
        elif part or (word != "sudo" and not re.fullmatch(r"[A-Z_]+=.*", word)):
            part.append(word)


def programs(text: str) -> list[str]:
    """The programs that a command line starts."""
    return [name for name, *_arguments in _parts(text)]


def problems(text: str) -> list[str]:
    """What is wrong with this command line; nothing if every program in it would take it.

    Raises MissingProgramError when that cannot be told here.
    """
    found = []
    for name, *arguments in _parts(text):
        check = _CHECKS.get(name)
        if check:
            found += [f"{name}: {problem}" for problem in check(arguments)]
        elif name not in UNCHECKED:
            found.append(f"{name}: no test knows this program: give lab/documented.py a check, or UNCHECKED a reason")
    return found


@functools.cache
def _said(*command: str) -> tuple[int, str]:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1", "PAGER": "cat"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def _ansible(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _playbook(arguments: Sequence[str]) -> Iterator[str]:
    """Its file, its options and tags by ansible-playbook itself, and that each variable is one that it knows."""
    yield from _unparsed(arguments)
    playbooks = [one for one in arguments if one.startswith("playbooks/")]
    if not playbooks:
        yield "no playbook of this collection is named"
    broken = [output for playbook in playbooks for code, output in [_listed(playbook)] if code]
    if broken:
        yield from broken
        return
    known = {name for playbook in playbooks for name in _variables(playbook)}
    yield from (f"the variable {name} is none of {playbooks}" for name in _given(arguments) if name not in known)
    tags = {tag for playbook in playbooks for tag in _tags(playbook)}
    yield from (f"the tag {tag} is none of {playbooks}" for tag in _named_tags(arguments) if tag not in tags)


def _unparsed(arguments: Sequence[str]) -> Iterator[str]:
    """By the parser of ansible-playbook, in this process: starting it for each command would take most of the time."""
    # On import it asks for a locale of UTF-8.
    with mock.patch.dict(os.environ, {"LC_ALL": "C.UTF-8"}):
        from ansible.cli.playbook import PlaybookCLI
    told = io.StringIO()
    program = PlaybookCLI(["ansible-playbook", *arguments])
    program.init_parser()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        try:
            program.parser.parse_args(arguments)
        except SystemExit as end:
            if end.code not in (0, None):
                yield told.getvalue().strip()


@functools.cache
def _all_listed() -> dict[str, str]:
    """The tags of every playbook; nothing where one of them is not valid."""
    names = [f"playbooks/{path.name}" for path in sorted((ROOT / "playbooks").glob("*.yml"))]
    code, output = _said(_ansible("ansible-playbook"), "--list-tags", *names)
    parts = re.split(r"^playbook: (.+)$", output, flags=re.MULTILINE)
    return {} if code else dict(zip(parts[1::2], parts[2::2], strict=True))


def _listed(playbook: str) -> tuple[int, str]:
    """The exit code and output of ansible-playbook --list-tags, for which it loads all of a playbook."""
    every = _all_listed()
    return (0, every[playbook]) if playbook in every else _said(_ansible("ansible-playbook"), "--list-tags", playbook)


@functools.cache
def _variables(playbook: str) -> frozenset[str]:
    """Those that a playbook, what it imports and the roles that it uses take, their own ones included."""
    text = (ROOT / playbook).read_text()
    known = set(_VARIABLE.findall(text))
    for imported in re.findall(r"import_playbook: (?:\S*\.)?([\w-]+\.yml)", text):
        known |= _variables(f"playbooks/{imported}")
    roles = list(re.findall(rf"{re.escape(COLLECTION)}(\w+)", text))
    seen: set[str] = set()
    while roles:
        folder = ROOT / "roles" / roles.pop()
        if folder.name not in seen and (specs := folder / "meta" / "argument_specs.yml").exists():
            seen.add(folder.name)
            for spec in yaml.safe_load(specs.read_text())["argument_specs"].values():
                known |= set(spec.get("options", {}))
            used = "".join(file.read_text() for file in (folder / "tasks").glob("*.yml"))
            roles += re.findall(rf"name: {re.escape(COLLECTION)}(\w+)", used)
    return frozenset(known)


@functools.cache
def _tags(playbook: str) -> frozenset[str]:
    _code, output = _listed(playbook)
    return frozenset(tag for tags in re.findall(r"TAGS: \[(.*)\]", output) for tag in re.split(r",\s*", tags))


def _values(arguments: Sequence[str], *flags: str) -> Iterator[str]:
    for flag, value in zip(arguments, [*arguments[1:], ""]):
        if flag in flags:
            yield value


def _given(arguments: Sequence[str]) -> Iterator[str]:
    for value in _values(arguments, "-e", "--extra-vars"):
        if not value.startswith("@"):
            yield from _names(value)


def _names(value: str) -> list[str]:
    """Of `name=value name=value`, or of a JSON object."""
    return list(json.loads(value)) if value.startswith("{") else [one.partition("=")[0] for one in shlex.split(value)]


def _named_tags(arguments: Sequence[str]) -> Iterator[str]:
    for value in _values(arguments, "--tags", "-t", "--skip-tags"):
        yield from value.split(",")


def _adhoc(arguments: Sequence[str]) -> Iterator[str]:
    """`ansible HOSTS -m MODULE -a OPTIONS`: the module, and each of its options, by ansible-doc."""
    for module in _values(arguments, "-m", "--module-name"):
        code, output = _said(_ansible("ansible-doc"), "--json", module)
        start = output.find("{")
        documented = json.JSONDecoder().raw_decode(output, start)[0] if code == 0 and start >= 0 else {}
        if module not in documented:
            yield f"no module {module}: {output.strip()}"
            continue
        options = documented[module]["doc"].get("options", {})
        known = {name for option, about in options.items() for name in (option, *about.get("aliases", ()))}
        for value in _values(arguments, "-a", "--args"):
            given = set(_names(value))
            required = {name for name, about in options.items() if about.get("required")}
            yield from (f"{module} has no option {name}" for name in given - known)
            yield from (f"{module} needs {name}" for name in required - given)


def _doc(arguments: Sequence[str]) -> Iterator[str]:
    code, output = _said(_ansible("ansible-doc"), *arguments)
    # It ends with 0 also when it has found nothing.
    if code or "[WARNING]" in output or arguments[-1] not in output:
        yield f"nothing on {arguments[-1]}: {output.strip()}"


def _agent(arguments: Sequence[str]) -> Iterator[str]:
    """By the agent's own parser."""
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        try:
            cli._parsed(arguments)
        except SystemExit as end:
            if end.code not in (0, None):
                yield told.getvalue().strip()


def _of_words(program: Callable[[], str], help_flag: str) -> Callable[[Sequence[str]], Iterator[str]]:
    """For programs with sub-commands whose help begins with "usage: PROGRAM SUB-COMMAND"."""

    def check(arguments: Sequence[str]) -> Iterator[str]:
        path = program()
        words = [one for one in arguments if not one.startswith("-")]
        asks_for_help = help_flag in arguments
        for length in range(len(words), -1, -1):
            _code, output = _said(path, *words[:length], help_flag)
            usage = " ".join([Path(path).name, *words[:length]])
            told = re.search(rf"^usage: {re.escape(usage)}(?: |$)(.*)", output, re.IGNORECASE | re.MULTILINE)
            if told:
                break
        else:
            yield f"it has no help: {output.strip()}"
            return
        if re.search(r"<(?:sub)?command>", told[1]) and not (asks_for_help and length == len(words)):
            yield f"{usage} has no sub-command {words[length] if length < len(words) else 'here, and needs one'}"
        flags = [one for one in arguments if one != help_flag]
        yield from _unknown_flags(flags, output + _said(path, help_flag)[1])

    return check


def _unknown_flags(arguments: Sequence[str], told: str, *, clustered: bool = False) -> Iterator[str]:
    """Each flag has to be in the help; `clustered` for programs that take -ab for -a -b."""
    known = set(re.findall(r"(?<![\w-])--?[A-Za-z0-9](?:[\w.-]*\w)?", told.replace("--[no-]", "--")))
    for argument in arguments:
        flag = argument.partition("=")[0]
        if not flag.startswith("-") or flag in known or not flag.strip("-"):
            continue
        letters = {f"-{letter}" for letter in flag[1:]}
        if not clustered or flag.startswith("--") or not letters <= known:
            yield f"no option {flag}"


def _by_help(name: str, *help_words: str) -> Callable[[Sequence[str]], Iterator[str]]:
    """For a program with one page of help for all of its options."""

    def check(arguments: Sequence[str]) -> Iterator[str]:
        _code, told = _said(_installed(name), *help_words)
        yield from _unknown_flags(arguments, told, clustered=True)
        verb = next((one for one in arguments if not one.startswith("-")), "")
        if name == "systemctl" and not re.search(rf"^  {re.escape(verb)}\b", told, re.MULTILINE):
            yield f"no command {verb}"

    return check


def _openssl(arguments: Sequence[str]) -> Iterator[str]:
    code, told = _said(_installed("openssl"), arguments[0], "-help")
    if code or f"Usage: {arguments[0]}" not in told:
        yield f"no command {arguments[0]}"
    else:
        yield from _unknown_flags(arguments[1:], told)


def _installed(name: str) -> str:
    found = shutil.which(name)
    if not found:
        raise MissingProgramError(f"{name} is not on this machine, so nobody looked whether it takes this")
    return found


_CHECKS: dict[str, Callable[[Sequence[str]], Iterator[str]]] = {
    "ansible-playbook": _playbook,
    "ansible": _adhoc,
    "ansible-doc": _doc,
    "custodes": _agent,
    "vault": _of_words(lambda: str(vault_binary()), "-help"),
    "promtool": _of_words(lambda: str(debian_program("prometheus", "promtool")), "--help"),
    "amtool": _of_words(lambda: str(debian_program("prometheus-alertmanager", "amtool")), "--help"),
    "systemctl": _by_help("systemctl", "--help"),
    "journalctl": _by_help("journalctl", "--help"),
    "curl": _by_help("curl", "--help", "all"),
    "openssl": _openssl,
}
