# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does to a host, as root, what intruders do, without the harm: its miners sleep.

intruder.py plant     # prints what is to be found, as lab.judge expects it
intruder.py remove    # everything is as before
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

KEPT = Path("/root/intruder.json")
SLEEP = shutil.which("sleep") or "/bin/sleep"
HOSTILE = "evil\n\x1b[31mred\x1b[0m\u202e"
"""In names: a log that takes it as it is has two lines, and a terminal that shows it is another colour."""
SHOWN = "evil\\x0a\\x1b[31mred"
PORT = 4545

TIMER = "/etc/systemd/system/telemetry.timer"
FILES = {
    "/etc/cron.d/intruder": "*/5 * * * * root /opt/intruder\n",
    f"/etc/cron.d/{HOSTILE}": "*/5 * * * * root /opt/intruder\n",
    "/etc/systemd/system/telemetry.service": "[Service]\nType=oneshot\nExecStart=/bin/true\n",
    TIMER: "[Timer]\nOnCalendar=yearly\n",
    # A library that every program has loaded anyway.
    "/etc/ld.so.preload": "/lib/x86_64-linux-gnu/libdl.so.2\n",
}
CHANGED = {"/etc/crontab": "17 3 * * * root /opt/intruder\n"}
DELETED = "/etc/cron.d/nightly-report"
"""prepare.yml has put it there."""

FOUND = [
    ("process.miner_name", "T1496", "xmrig"),
    ("process.miner_arguments", "T1496", "backup-agent"),
    ("process.deleted_executable", "T1070.004", "/opt/updater"),
    ("listener.unexpected", "T1571", str(PORT)),
    ("schedule.cron", "T1053.003", "/etc/cron.d/intruder"),
    ("schedule.cron", "T1053.003", SHOWN),
    ("schedule.cron", "T1053.003", "/etc/crontab"),
    ("schedule.cron", "T1053.003", DELETED),
    ("schedule.timer", "T1053.006", TIMER),
    ("persistence.ld_preload", "T1574.006", "/etc/ld.so.preload"),
]
"""The rule, the technique, and what the subject, the summary or the evidence has to name."""


def start(*arguments: str, name: str = "") -> int:
    """A program that outlives this one; `name` is what it calls itself. Returns its process id."""
    process = subprocess.Popen(
        [name or arguments[0], *arguments[1:]],
        executable=arguments[0],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    return process.pid


def copied(path: str) -> str:
    """A copy of sleep under another name."""
    shutil.copy2(SLEEP, path)
    return path


def listens() -> bool:
    """Whether somebody has the port open, over IPv6."""
    rows = [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{PORT:04X}") and row[3] == "0A" for row in rows)


def plant() -> None:
    changed = {path: Path(path).read_text() for path in (*CHANGED, DELETED)}
    pool = ["-o", "stratum+tcp://pool.example.org:3333", "-u", f"wallet{HOSTILE}"]
    pids = [
        start(copied("/opt/xmrig"), "3600"),
        start("/usr/bin/perl", "-e", "sleep 3600", "--", *pool, name="backup-agent"),
        start(copied("/opt/updater"), "3600"),
        start("/usr/bin/python3", "-m", "http.server", "--bind", "::", "--directory", "/srv", str(PORT)),
    ]
    KEPT.write_text(json.dumps({"pids": pids, "changed": changed}))
    Path("/opt/updater").unlink()
    for path, content in FILES.items():
        Path(path).write_text(content)
    for path, more in CHANGED.items():
        Path(path).write_text(changed[path] + more)
    Path(DELETED).unlink()
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    for _unused in range(100):
        if listens():
            break
        time.sleep(0.1)
    json.dump([{"rule": rule, "technique": number, "names": names} for rule, number, names in FOUND], sys.stdout)


def remove() -> None:
    kept = json.loads(KEPT.read_text())
    for pid in kept["pids"]:
        os.kill(pid, signal.SIGKILL)
    for path in (*FILES, "/opt/xmrig"):
        Path(path).unlink()
    for path, content in kept["changed"].items():
        Path(path).write_text(content)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    KEPT.unlink()


if __name__ == "__main__":
    {"plant": plant, "remove": remove}[sys.argv[1]]()
