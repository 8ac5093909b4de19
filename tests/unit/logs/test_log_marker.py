# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The line that is looked for: where it goes, and what is refused."""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.logs import backends, marker
from ansible_collections.custodes.security_dr.plugins.module_utils.logs.errors import LogsError


def test_a_marker_can_be_looked_for_and_is_never_the_same() -> None:
    made = {marker.new_marker() for _number in range(100)}
    assert len(made) == 100
    assert all(backends.MARKER.fullmatch(one) for one in made)


def test_it_goes_into_the_journal(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        journal.settimeout(5)
        began = time.time()
        sent = marker.into_journal("marker-1", path)
        ended = time.time()
        fields = dict(line.split("=", 1) for line in journal.recv(4096).decode().splitlines())
    assert fields["MESSAGE"].endswith(" marker-1")
    assert (fields["PRIORITY"], fields["SYSLOG_IDENTIFIER"]) == ("6", "custodes")
    assert began <= sent <= ended


def test_a_host_without_a_journal(tmp_path: Path) -> None:
    with pytest.raises(LogsError, match="Is systemd-journald running here"):
        marker.into_journal("marker-1", str(tmp_path / "journal"))


def test_it_goes_to_the_end_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "app.log"
    file.write_text("before\n")
    marker.into_file("marker-1", str(file))
    before, line = file.read_text().splitlines()
    assert before == "before"
    assert line.endswith("Z custodes: is this line in every log backend? marker-1")


def test_the_parser_of_container_logs_takes_it(tmp_path: Path) -> None:
    file = tmp_path / "x.log"
    sent = marker.into_file("marker-1", str(file), "cri")
    # Of Fluent Bit's manual, "Container Runtime Interface parser".
    regex = r"^(?P<time>[^ ]+) (?P<stream>stdout|stderr) (?P<logtag>[^ ]*) (?P<log>.*)$"
    parsed = re.match(regex, file.read_text().rstrip("\n"))
    assert parsed
    assert parsed["log"].endswith("marker-1")
    assert (parsed["stream"], parsed["logtag"]) == ("stdout", "F")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", parsed["time"])
    assert sent > 0


def test_no_link_no_pipe_no_new_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "shadow")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    for name in ("link", "pipe", "none/app.log"):
        with pytest.raises(LogsError, match="Cannot append a line to"):
            marker.into_file("marker-1", str(tmp_path / name))
    os.close(reader)
    assert not (tmp_path / "shadow").exists()
