# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make drill`: run playbooks/dr-drill.yml with all six parts on real servers, and show its report."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
import webbrowser

from ansible_collections.custodes.security_dr.plugins.module_utils.report.charts import duration
from lab import Lab, LabError
from lab.binaries import loki_binary, server
from lab.drill import DrillLab
from lab.playbook import ROOT
from lab.progress import Progress, table

OUTPUT = ROOT / "build" / "drill"
REPORT = OUTPUT / "report.html"
PARTS = 4


def drill(lab: Lab, progress: Progress) -> None:
    """Run the drill from the start of its servers to the report."""
    progress.part("Start a site: Vault and an empty one for drills, a CA, two Loki and two Prometheus servers, TLS")
    with progress.task("Start the servers and make a snapshot"):
        site = DrillLab(lab)
    try:
        for text in site.left_out:
            progress.note(text)
        progress.part("Rehearse: check whether the drill could begin, and stop nothing")
        progress.play(site.playbook())
        progress.part("Drill: stop each server in turn, and measure what still works")
        began = time.monotonic()
        progress.play(site.for_real())
        took = time.monotonic() - began
    finally:
        site.stop()
        # Of a failed drill as well.
        if site.records.exists():
            shutil.copytree(site.records, OUTPUT, ignore=shutil.ignore_patterns("*.lock", "recovery-*"))
    newest = json.loads(max(OUTPUT.glob("drill-*.json")).read_text())
    progress.part(f"Result: the drill took {took:.0f} s")
    rows = [
        (
            one["title"],
            f"{one['verdict']}: {duration(one['measured'])} (at most {duration(one['objective']['at_most'])})",
        )
        for one in newest["phases"]
    ]
    for line in table(rows):
        progress.line(line)
    progress.line(f"\n  The report is {REPORT.relative_to(ROOT)}: open it in a browser.")
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(REPORT.as_uri())


def main(arguments: list[str]) -> int:
    """Run the drill. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="make drill", description=__doc__)
    parser.add_argument("--verbose", action="store_true", help="show all of Ansible's output (make drill V=1)")
    progress = Progress(PARTS, verbose=parser.parse_args(arguments).verbose)
    # A failed drill must not leave the report of an earlier one.
    shutil.rmtree(OUTPUT, ignore_errors=True)
    try:
        found = server(progress=progress.note)
        progress.line(f"This drill runs {found.description}")
        progress.line(f"It stores logs in Loki: {loki_binary(progress=progress.note)}")
        progress.line(
            "Another server: make drill VAULT_BIN=/path/to/vault-or-bao. All of Ansible's output: make drill V=1."
        )
        with Lab() as lab:
            try:
                drill(lab, progress)
            except LabError as error:
                raise LabError(f"{error}\n{lab.logs('make drill')}") from error
    except LabError as error:
        progress.line()
        sys.stderr.write(f"drill: {error}\n")
        if REPORT.exists():
            sys.stderr.write(f"The report of this drill is {REPORT.relative_to(ROOT)}: open it in a browser.\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ndrill: interrupted. No server is left running.\n")
        return 130
    progress.line("\nAll of it ran on the loopback interface. No server is left running.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
