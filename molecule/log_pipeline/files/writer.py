# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes numbered lines, fifty a second, until SIGTERM; then says how many, in /run/writer-STORY.

python3 writer.py STORY
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

ended = threading.Event()
signal.signal(signal.SIGTERM, lambda _number, _frame: ended.set())
story, count = sys.argv[1], 0
with Path("/var/log/app/app.log").open("a", buffering=1) as log:
    while not ended.wait(0.02):
        log.write(f"{story} line={count} of the test\n")
        count += 1
Path(f"/run/writer-{story}").write_text(str(count))
