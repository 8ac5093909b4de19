# Copyright: (c) 2026, the custodes.security_dr authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report in a real browser: light, dark, narrow, printed; and it asks nobody for anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.custodes.security_dr.plugins.module_utils.drill.report import html
from lab.browser import Browser
from lab.drill_records import made_up
from lab.processes import LabError

BACKGROUND = "getComputedStyle(document.body).backgroundColor"
WHITE = "rgb(255, 255, 255)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        opened = Browser()
    except LabError as error:
        pytest.skip(str(error))
    with opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(html(made_up(9), [], "2027-01-15"))
    return file


def test_it_is_shown_and_asks_nobody(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert browser.value("document.title") == "Disaster recovery drills, 2027-01-15"
    assert browser.value("document.querySelectorAll('svg').length") == 3
    assert browser.value("document.querySelector('rect.passed').getBoundingClientRect().width") > 10
    assert browser.value(BACKGROUND) == WHITE
    assert browser.complaints == []


def test_dark_is_dark_and_can_be_read(browser: Browser, report: Path) -> None:
    browser.open(report)
    light = browser.screenshot()
    browser.open(report, scheme="dark")
    assert browser.screenshot() != light
    luminance = "getComputedStyle(document.body).{}.match(/\\d+/g).reduce((sum, one) => sum + +one, 0)"
    assert browser.value(luminance.format("backgroundColor")) < 120
    assert browser.value(luminance.format("color")) > 600


def test_printed_it_is_on_white_paper_also_for_who_likes_it_dark(browser: Browser, report: Path) -> None:
    browser.open(report, scheme="dark", media="print")
    assert browser.value(BACKGROUND) == WHITE
    pdf = browser.pdf()
    assert pdf.startswith(b"%PDF")
    assert 1 < pdf.count(b"/Type /Page\n") <= 6


@pytest.mark.parametrize("width", [400, 1600])
def test_nothing_sticks_out(browser: Browser, report: Path, width: int) -> None:
    browser.open(report, width=width)
    assert browser.value("document.documentElement.scrollWidth") <= width
    # What is too wide for a telephone is moved within its own frame.
    wide = (
        "[...document.querySelectorAll('body > *')].filter(one => one.getBoundingClientRect().right > innerWidth + 1)"
    )
    assert browser.value(f"{wide}.length") == 0
