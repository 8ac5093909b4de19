# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A scenario that lacks what no registry has: it is skipped by its name, and the table at the end counts it."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import molecule
from lab.fluent_bit import WHERE_FROM
from layers import Outcome


def test_without_a_fluent_bit_the_log_pipeline_is_skipped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FLUENT_BIT_BIN", raising=False)
    # Neither a Fluent Bit nor Molecule: it would not be able to begin.
    monkeypatch.setenv("PATH", str(tmp_path))
    assert molecule.main(["test", "log_pipeline"]) == 0
    said = capsys.readouterr().out
    assert said == f"Skipping scenario log_pipeline: there is no Fluent Bit. {WHERE_FROM}\n"
    outcome = Outcome("molecule", "ok", output=["+ python -m lab.molecule test log_pipeline\n", *said.splitlines(True)])
    assert outcome.skipped() == 1
    assert outcome.summary() == "1 skipped"
