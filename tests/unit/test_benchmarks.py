# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmarks' common part: how a failure is reported, and the table of all results. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks import __main__ as runner
from benchmarks import _measure
from benchmarks._measure import BenchmarkError, Cost, Row, Run, cpu_ratio, ratio, run

FAST = Row("fast", 0.5, "x", 1.0, ours=Cost(1.0, 2.0, 30.0), theirs=Cost(2.0))
SLOW = Row("slow", 7.0, "s", 5.0)


def test_a_command_that_fails_is_named_with_the_end_of_its_output() -> None:
    with pytest.raises(BenchmarkError) as caught:
        run(["sh", "-c", "seq 100; echo the reason >&2; exit 3"], name="the script")
    message = str(caught.value)
    assert message.startswith("the script ended with exit status 3 (")
    assert message.endswith("  100\n  the reason\n")
    assert "\n  10\n" not in message


def test_a_command_that_does_not_end_is_killed_with_its_children() -> None:
    # The child has the same output: the run ends once neither has it open.
    with pytest.raises(BenchmarkError, match=r"the script was killed after 0\.2 s .*\n  begun\n"):
        run(["sh", "-c", "echo begun; sleep 60 & sleep 60"], name="the script", timeout=0.2)


def test_the_variables_of_a_command_and_its_output() -> None:
    done = run(["sh", "-c", 'echo "$SIDE"; echo error >&2'], {"SIDE": "ours"})
    assert done.output == "ours\nerror\n"


@pytest.mark.parametrize(
    ("value", "goal", "least", "met"),
    [(1.0, 1.0, False, True), (1.01, 1.0, False, False), (0.8, 0.8, True, True), (0.79, 0.8, True, False)],
)
def test_a_goal_is_an_upper_or_a_lower_bound(value: float, goal: float, least: bool, met: bool) -> None:
    assert Row("it", value, "x", goal, least).met is met
    assert Row("it", value, "x").met is True


def test_a_ratio_is_the_median_of_the_pairs() -> None:
    pairs = [(Run(1.0, 3.0, 10.0, ""), Run(2.0, 1.0, 1.0, "")), (Run(9.0, 3.0, 12.0, ""), Run(3.0, 1.0, 1.0, ""))]
    pairs.append((Run(2.0, 3.0, 11.0, ""), Run(2.0, 2.0, 1.0, "")))
    row = ratio("it", pairs, 1.5)
    assert (row.value, row.ours, row.theirs) == (1.0, Cost(2.0, 3.0, 12.0), Cost(2.0, 1.0, 1.0))
    assert cpu_ratio(row).value == 3.0


def test_what_was_measured_before_a_failure_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure() -> Iterator[Row]:
        yield FAST
        raise BenchmarkError("the script ended with exit status 3")

    monkeypatch.setenv(_measure.RESULTS, str(tmp_path / "results"))
    assert _measure.main(measure) == 1
    assert "FAILED: the script ended with exit status 3" in capsys.readouterr().err
    result = runner.read("it", tmp_path / "results")
    assert (result.rows, result.failure) == ([FAST], "the script ended with exit status 3")


@pytest.mark.parametrize(("rows", "code"), [([FAST], 0), ([FAST, SLOW], 1)])
def test_the_exit_status_of_a_benchmark(rows: list[Row], code: int) -> None:
    assert _measure.main(lambda: rows) == code


def test_the_table_names_every_goal_missed_and_every_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = {
        "backup": runner.Result("backup", [FAST, SLOW]),
        "recover": runner.Result("recover", notes=["Vault v1"], failure="it hung"),
        "report": runner.Result("report", [FAST], notes=["Vault v1"]),
    }
    monkeypatch.setattr(runner, "execute", lambda name, _file: results[name])
    assert runner.main(list(results)) == 1
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert "| fast | 0.50 x | ≤ 1 x | met    | 1.00 s, 2.00 s of CPU, 30.0 MiB | 2.00 s                 |" in lines
    assert "2 of 3 goals met, 1 of 3 benchmarks failed" in lines
    assert lines[-2:] == ["backup: MISSED: slow: 7.00 s (goal ≤ 5 s: MISSED)", "recover: FAILED: it hung"]
    assert shown.count("Vault v1") == 1
    assert runner.main(["report"]) == 0


def test_a_benchmark_that_reports_nothing_has_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runner.sys, "executable", "true")
    result = runner.execute("it", tmp_path / "results")
    assert result.problems[0].startswith("it: FAILED: it ended with exit status 0 after ")


def test_an_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["backups"]) == 2
    assert "unknown: backups. The benchmarks are: backup, detect, " in capsys.readouterr().err
