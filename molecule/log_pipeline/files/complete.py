# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits until this Loki has every line of a story of one host, and prints how long, and how many it has twice.

python3 complete.py STORY HOST COUNT SECONDS      # status 1 when lines are missing after so many seconds
python3 complete.py STORY HOST                    # prints how many it has now
"""

from __future__ import annotations

import json
import re
import sys
import time
import urllib.parse
import urllib.request
from collections import Counter


def lines(story: str, host: str) -> Counter[int]:
    """The numbers of the lines that Loki returns, and how often it has each."""
    found: Counter[int] = Counter()
    start = time.time_ns() - 1800 * 10**9
    while True:
        wanted = f'{{host="{host}"}} |= `{story} line=`'
        query = {"query": wanted, "start": start, "limit": 4000, "direction": "forward"}
        url = f"http://127.0.0.1:3100/loki/api/v1/query_range?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            values = [one for stream in json.load(answer)["data"]["result"] for one in stream["values"]]
        found.update(int(number) for _time, text in values for number in re.findall(rf"{story} line=(\d+) ", text))
        if len(values) < 4000:
            return found
        start = max(int(value[0]) for value in values) + 1


story, host = sys.argv[1:3]
if len(sys.argv) == 3:
    sys.stdout.write(f"{len(lines(story, host))}\n")
    sys.exit()
count, longest = int(sys.argv[3]), float(sys.argv[4])
began = time.monotonic()
while True:
    try:
        has = lines(story, host)
    except OSError:
        has = Counter()
    missing = set(range(count)) - set(has)
    waited = time.monotonic() - began
    if not missing or waited > longest:
        break
    time.sleep(0.25)
doubled = sum(has.values()) - len(has)
sys.stdout.write(f"{host}, {story}: {count - len(missing)} of {count} lines, {doubled} twice, {waited:.1f} s\n")
sys.exit(1 if missing or not count else 0)
