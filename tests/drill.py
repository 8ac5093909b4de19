# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make drill`: playbooks/dr-drill.yml on real servers of this machine's loopback, all six parts, and the report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import webbrowser

from lab import Lab, LabError
from lab.binaries import loki_binary, vault_binary
from lab.drill import DR_DRILL, DrillLab
from lab.pki import write_private
from lab.playbook import ROOT, Playbook, ansible_playbook

OUTPUT = ROOT / "build" / "drill"


def say(text: str) -> None:
    """A step, so that nobody wonders what is going on."""
    print(f"\n=== {text}", flush=True)


def play(run: Playbook, name: str, shown: str) -> None:
    """Runs the drill before the spectator's eyes. Raises LabError when it has not passed."""
    file = run.directory.parent / f"{name}.json"
    write_private(file, json.dumps(dict(run.variables)).encode())
    print(f"$ ansible-playbook -i inventory {DR_DRILL} -e @site.yml {shown}", flush=True)
    environment = {**run.environment, "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false", "ANSIBLE_DISPLAY_OK_HOSTS": "false"}
    command = [*ansible_playbook(), "-i", str(run.inventory), DR_DRILL, "-e", f"@{file}"]
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0:
        raise LabError("the drill has not passed: the reason is above")


def drill(lab: Lab) -> None:
    """The whole story."""
    say("A site: an empty Vault for drills, a CA, two Lokis, two Prometheis with Alertmanager, a TLS server")
    site = DrillLab(lab)
    try:
        for text in site.left_out:
            print(f"  {text}")
        say("The rehearsal: nothing is stopped, and it is seen whether a drill could begin")
        play(site.playbook(), "rehearsal", "-e dr_drill_operator=alice")
        say("The drill")
        began = time.monotonic()
        play(site.for_real(), "drill", "-e dr_drill_operator=alice -e dr_drill_mode=drill -e dr_drill_confirm=lab")
        took = time.monotonic() - began
        shutil.rmtree(OUTPUT, ignore_errors=True)
        shutil.copytree(site.records, OUTPUT, ignore=shutil.ignore_patterns("*.lock", "recovery-*"))
    finally:
        site.stop()
    newest = json.loads(max(OUTPUT.glob("drill-*.json")).read_text())
    say(f"The whole drill took {took:.0f} s")
    for phase in newest["phases"]:
        of = phase["objective"]["at_most"]
        print(f"  {phase['verdict']:<8} {phase['measured']:>6.1f} s of {of:>4.0f}  {phase['title']}")
    print(f"\n  {OUTPUT / 'report.html'}: open it in a browser")
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open((OUTPUT / "report.html").as_uri())


def main() -> int:
    say("The Vault and Loki servers (built from Go modules the first time: 8 to 14 minutes, then cached)")
    try:
        for name, binary in (("VAULT_BIN", vault_binary), ("LOKI_BIN", loki_binary)):
            os.environ[name] = str(binary(progress=lambda line: print(f"  {line}", flush=True)))
            print(f"  {os.environ[name]}")
        with Lab() as lab:
            drill(lab)
    except LabError as error:
        sys.stderr.write(f"\ndrill: {error}\n")
        return 1
    print("\nAll of it ran on this machine's loopback; nothing is left running.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
