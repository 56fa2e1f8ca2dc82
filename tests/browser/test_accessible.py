"""Every page by axe-core, light and dark, wide and narrow, while a run is open and others are over."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.chromium import browser, console_errors, require, resize
from tests.browser.stage import every_path, give_a_past, stage

pytestmark = pytest.mark.rest

AXE = Path(__file__).parent / "vendor/axe.min.js"
WIDE, NARROW = 1440, 390
#: Beside its rules for WCAG 2.2 AA, those for what is best practice.
RUN = "axe.run(document, { resultTypes: ['violations'] }).then((found) => arguments[0](found.violations))"


def violations(driver, when):
    """Return what axe-core finds on the page that is shown, a line for each place."""
    found = driver.execute_async_script(RUN)
    return [f"{when}: {one['id']}: {node['html'][:160]}" for one in found for node in one["nodes"]]


def test_no_page_has_a_barrier():
    """The colours are looked at in both schemes; roles, names and sizes in both widths."""
    require()
    with stage() as (system, base), browser() as driver:
        runs = give_a_past(system)
        found = []
        for path in every_path(system, runs):
            driver.get(base + path)
            driver.execute_script(AXE.read_text())
            for width, dark in ((WIDE, False), (NARROW, True)):
                resize(driver, width, dark=dark)
                found += violations(driver, f"{path}, {width} px, {'dark' if dark else 'light'}")
            found += [f"{path}: {error}" for error in console_errors(driver)]
            if sideways(driver):
                found.append(f"{path}: wider than {NARROW} px")

    assert not found, "\n".join(found)


def sideways(driver):
    """Return whether one has to scroll sideways to read the page, or a table in it."""
    wide = "const wide = (one) => one.scrollWidth > one.clientWidth + 1; "
    return driver.execute_script(f"{wide}return wide(document.documentElement)")
