# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the layers of the tests: those named, one after the other, or all of them in lanes with a table at the end.

    python tests/layers.py unit            # one layer, its output as it is
    python tests/layers.py                 # all: each line marked with its layer, a failed layer's repeated whole

The table has each layer's CPU time beside its seconds: a change may add 1.5 minutes of CPU.

The exit code is 0 when every layer passed, 1 when one failed or could not run, 130 when interrupted.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
BIN = ROOT / ".venv" / "bin"
PYTHON = str(BIN / "python")

Command = list[str]
"""A program and its arguments, run at the root of the checkout."""

REASONS, REASON_LINES = 3, 9
"""How many failures of a layer are repeated after the table, and in how many lines each."""

CPU_TIME = str(TESTS / "tools" / "cpu_time.py")

DRILLS = "tests/integration/test_dr_drill.py"
"""It takes minutes, most of them waiting: a layer of its own, for the shorter lane."""

STOP_GRACE = 20.0
"""Seconds between asking a layer to stop, telling it, and killing it."""


def _present(*names: str) -> list[str]:
    """Name those of the packages and modules under tests/ that are there."""
    return [name for name in names if (TESTS / name).is_dir() or (TESTS / f"{name}.py").is_file()]


def _lint() -> list[Command]:
    packages = ["ansible_collections.custodes.security_dr.plugins", *_present("lab", "tools", "benchmarks")]
    modules = _present("layers", "conftest", "demo", "drill")
    return [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy", *(f"--package={name}" for name in packages), *(f"--module={name}" for name in modules)],
        ["ansible-lint"],
        ["antsibull-changelog", "lint"],
        [PYTHON, "-m", "tools.artefact"],
    ]


def _program(name: str) -> list[Command]:
    return [[PYTHON, "-m", "lab.binaries", name]]


def _integration(marked: str) -> list[Command]:
    # Three at a time: most of it waits for servers. A file is one worker's, as its fixtures are.
    pytest = [PYTHON, "-m", "pytest", "--verbose", "--numprocesses=3", "--dist=loadfile", "--no-loadscope-reorder"]
    return [[*pytest, "tests/integration", f"--ignore={DRILLS}", "-m", marked]]


def _molecule(*, vault: bool) -> list[Command]:
    found = sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))
    return [[PYTHON, "-m", "lab.molecule", "test", name] for name in found if (name == "default") is vault]


LAYERS: dict[str, Callable[[], list[Command]]] = {
    # Three on two cores: some of them wait.
    "unit": lambda: [[PYTHON, "-m", "pytest", "--numprocesses=3", "--dist=worksteal", "tests/unit"]],
    "lint": _lint,
    "sanity": lambda: [[PYTHON, "-m", "tools.sanity"]],
    "openbao": lambda: _program("openbao"),
    "loki": lambda: _program("loki"),
    "step-ca": lambda: _program("step-ca"),
    "vault": lambda: _program("vault"),
    "integration": lambda: _integration("not vault"),
    "integration-vault": lambda: _integration("vault or both"),
    "drills": lambda: [[PYTHON, "-m", "pytest", "--verbose", DRILLS]],
    "molecule": lambda: _molecule(vault=False),
    "molecule-vault": lambda: _molecule(vault=True),
    "bench": lambda: [[PYTHON, "-m", "benchmarks"]],
}

NEEDS = {
    "integration": ("openbao", "loki", "step-ca"),
    "integration-vault": ("vault",),
    "drills": ("openbao", "loki"),
    "molecule": ("loki",),
    "molecule-vault": ("vault",),
}

SERVERS = {
    "integration": "openbao",
    "integration-vault": "vault",
    "drills": "openbao",
    "molecule-vault": "vault",
    "bench": "vault",
}
"""Which server a layer runs on; see `lab.binaries.server`."""

# A lane waits for servers and hosts most of its time, so there are more of them than cores. What only computes gives
# way (see `POLITE`). With empty caches, the last lane builds servers meanwhile. Benchmarks are no tests: `make bench`
# has the machine to itself.
LANES: list[list[str]] = [
    ["openbao", "integration"],
    ["drills"],
    ["molecule", "molecule-vault"],
    ["unit", "lint", "sanity", "integration-vault"],
    ["loki", "step-ca", "vault"],
]
POLITE = {"unit", "lint", "sanity", "loki", "step-ca", "vault"}


@dataclass
class Outcome:
    """The outcome of a layer.

    Attributes:
        result: ok, failed, stopped or not run.
        seconds: wall time.
        cpu: CPU time in seconds, of every process that the layer started.
    """

    layer: str
    result: str
    seconds: float = 0.0
    cpu: float = 0.0
    output: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """The last line in which pytest counts its tests, without its rules and colours; else how many were skipped."""
        for line in reversed(self.output):
            if match := re.search(r"((?:\d+ [a-z]+, )*\d+ (?:passed|failed|skipped|errors?)\b.*?) in [\d.]+s", line):
                return match.group(1)
        left_out = re.compile(r"Skipping (sanity test|scenario) ")
        skipped = sum(bool(left_out.search(line)) for line in self.output)
        return f"{skipped} skipped" if skipped else ""

    def reasons(self) -> list[str]:
        """The last few lines that say what failed: the end of a log may be all that somebody gets to see."""
        said = re.compile(r"fatal: \[|^FAILED |^ERROR |^E  |: error: |exit code \d+: ")
        marked = [number for number, line in enumerate(self.output) if said.search(line)]
        shown = sorted({number + more for number in marked[-REASONS:] for more in range(REASON_LINES)})
        return [self.output[number][:300] for number in shown if number < len(self.output)]

    def skipped(self) -> int:
        """How many tests pytest skipped, or ansible-test left out, or Molecule scenarios the lab did."""
        counted = re.search(r"(\d+) skipped", self.summary())
        return int(counted.group(1)) if counted else 0


class Runner:
    """Starts the commands of layers and stops every one of them when told to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = threading.Event()

    def run(self, layer: str, *, marked: bool) -> Outcome:
        """Run one layer to its end. All of its commands run, also after one of them failed.

        `marked` reads the output, writes it with the layer's name before each line, and keeps it; else it is inherited.
        """
        started = time.monotonic()
        outcome = Outcome(layer, "ok")
        commands = LAYERS[layer]()
        if not commands:
            self._write(outcome, "there is nothing to run", marked=marked)
            outcome.result = "failed"
        for command in commands:
            self._write(outcome, "+ " + " ".join(command).replace(f"{ROOT}/", ""), marked=marked)
            code = self._execute(command, outcome, marked=marked, polite=marked and layer in POLITE)
            if code != 0:
                self._write(outcome, f"exit code {code}: {Path(command[0]).name}", marked=marked)
                outcome.result = "failed"
            if self._stopped.is_set():
                outcome.result = "stopped"
                break
        outcome.seconds = time.monotonic() - started
        return outcome

    def stop(self) -> None:
        """Interrupt what runs, so that tests take their servers down; what does not end is terminated, then killed."""
        self._stopped.set()
        with self._lock:
            running = list(self._running)
        for process in running:
            process.send_signal(signal.SIGINT)
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + STOP_GRACE
            while any(process.poll() is None for process in running) and time.monotonic() < deadline:
                time.sleep(0.1)
            # Also what a layer left behind: each leads a process group of its own.
            for process in running:
                try:
                    os.killpg(process.pid, signal_number)
                except ProcessLookupError:
                    continue

    def _execute(self, command: Command, outcome: Outcome, *, marked: bool, polite: bool) -> int:
        with self._lock:
            if self._stopped.is_set():
                return 130
            process, cpu = _start(outcome.layer, command, marked=marked, polite=polite)
            self._running.add(process)
        try:
            for line in process.stdout or ():
                self._write(outcome, line.rstrip("\n"), marked=True)
            code = process.wait()
            with os.fdopen(cpu) as spent:
                outcome.cpu += float(spent.read() or 0)
            return code
        finally:
            # Interrupted, it runs on: `stop` has to find it.
            if process.poll() is not None:
                with self._lock:
                    self._running.discard(process)

    def _write(self, outcome: Outcome, line: str, *, marked: bool) -> None:
        outcome.output.append(f"{line}\n")
        with self._lock:
            sys.stdout.write(f"[{outcome.layer}] {line}\n" if marked else f"{line}\n")
            sys.stdout.flush()


def _start(layer: str, command: Command, *, marked: bool, polite: bool) -> tuple[subprocess.Popen[str], int]:
    """Start it; return the process, and the descriptor from which its CPU seconds can be read after its end."""
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(TESTS),
        "PYTHONUNBUFFERED": "1",
        # Ansible does not start under a locale that this system lacks.
        "LC_ALL": "C.UTF-8",
        "MYPYPATH": f"{ROOT / '.venv' / 'collections'}{os.pathsep}{TESTS}",
        # What the tools would write to ~/.ansible stays out of the developer's home.
        "ANSIBLE_HOME": str(ROOT / ".venv" / "ansible-home"),
        **({"LAB_SERVER": SERVERS[layer]} if layer in SERVERS else {}),
    }
    nice = ["nice", "-n", "10"] if polite else []
    read, write = os.pipe()
    process = subprocess.Popen(
        [PYTHON, "-I", CPU_TIME, str(write), *nice, *command],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if marked else None,
        stderr=subprocess.STDOUT if marked else None,
        text=True,
        errors="replace",
        start_new_session=True,
        pass_fds=[write],
    )
    os.close(write)
    return process, read


def run_named(runner: Runner, layers: list[str]) -> bool:
    """Run the layers in the order given, up to the first that fails. Returns whether all passed."""
    return all(runner.run(layer, marked=False).result == "ok" for layer in layers)


def run_all(runner: Runner) -> bool:
    """Run every layer of LANES, print the table, and return whether all passed."""
    started = time.monotonic()
    ended = {layer: threading.Event() for layers in LANES for layer in layers}
    outcomes = {layer: Outcome(layer, "not run") for layer in ended}

    def lane(layers: list[str]) -> None:
        try:
            for layer in layers:
                needs = NEEDS.get(layer, ())
                for needed in needs:
                    ended[needed].wait()
                missing = [needed for needed in needs if outcomes[needed].result != "ok"]
                if missing:
                    outcomes[layer].output = [
                        f"{needed} is needed and {outcomes[needed].result}\n" for needed in missing
                    ]
                else:
                    outcomes[layer] = runner.run(layer, marked=True)
                ended[layer].set()
        finally:
            # Also after a bug: what needs one of them would wait for ever.
            for layer in layers:
                ended[layer].set()

    lanes = [threading.Thread(target=lane, args=(layers,), daemon=True) for layers in LANES]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()

    ordered = [outcomes[layer] for layer in LAYERS if layer in outcomes]
    for outcome in ordered:
        if outcome.result != "ok":
            print(
                f"\n===== {outcome.layer}: {outcome.result}, its whole output =====\n{''.join(outcome.output)}", end=""
            )
    print(f"\n{'layer':<17} {'result':<8} {'seconds':>8} {'CPU min':>8}  summary")
    for outcome in ordered:
        spent = f"{outcome.seconds:>8.1f} {outcome.cpu / 60:>8.1f}"
        print(f"{outcome.layer:<17} {outcome.result:<8} {spent}  {outcome.summary()}".rstrip())
    cpu = sum(outcome.cpu for outcome in ordered)
    skipped = sum(outcome.skipped() for outcome in ordered)
    print(
        f"{'in all':<17} {'':<8} {time.monotonic() - started:>8.1f} {cpu / 60:>8.1f}  {skipped} skipped"
        + (" (reasons above)" if skipped else "")
    )
    for outcome in ordered:
        if outcome.result != "ok":
            print(f"{outcome.layer}: {''.join(outcome.reasons()).strip()}")
    return all(outcome.result == "ok" for outcome in ordered)


def main(arguments: list[str]) -> int:
    """Run the layers named in `arguments`, or all. Returns the exit code."""
    unknown = [name for name in arguments if name not in LAYERS]
    if unknown:
        print(f"unknown: {', '.join(unknown)}. The layers are: {', '.join(LAYERS)}", file=sys.stderr)
        return 2
    # CI ends a job with SIGTERM: the same way out as Ctrl-C. A background job of a shell ignores SIGINT, and what it
    # starts would inherit that: tests could then not be told to take their servers down.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    runner = Runner()
    try:
        passed = run_named(runner, arguments) if arguments else run_all(runner)
    except KeyboardInterrupt:
        print("\nstopping what runs ...", file=sys.stderr, flush=True)
        runner.stop()
        return 130
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
