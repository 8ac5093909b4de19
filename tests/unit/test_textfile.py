# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text that node_exporter's textfile collector reads."""

from __future__ import annotations

import stat
from pathlib import Path

from ansible_collections.custodes.security_dr.plugins.module_utils.textfile import gauges, write


def test_gauges() -> None:
    text = gauges(
        "x_",
        [
            ("a", "All.", [({}, 1_767_225_600.5)]),
            ("b", "Both.", [({"name": 'q"\\\n', "other": "é"}, True), ({"name": "none"}, None)]),
            ("c", "Nothing.", [({}, None)]),
        ],
    )
    assert text == (
        "# HELP x_a All.\n# TYPE x_a gauge\nx_a 1767225600.5\n"
        '# HELP x_b Both.\n# TYPE x_b gauge\nx_b{name="q\\"\\\\\\n",other="é"} 1\n'
    )


def test_file_is_for_everybody_to_read(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    path.write_text("old")
    write(path, "x_a 1\n")
    assert path.read_text() == "x_a 1\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]
