"""A real browser for the tests of the dashboard: Debian's Chromium, driven by its own driver."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from selenium.webdriver import Chrome

CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
#: Without a window, without a sandbox (containers have none), and without requests to other servers.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--lang=en",
)


def require():
    """Skip the test if there is no Chromium; fail it in CI, where it must be installed."""
    if CHROMIUM.exists() and CHROMEDRIVER.exists():
        return
    missing = f"there is no {CHROMIUM} or no {CHROMEDRIVER}; `apt-get install chromium chromium-driver` brings both"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


@contextmanager
def browser(width: int = 1440, height: int = 900, *, dark: bool = False) -> Iterator[Chrome]:
    """Yield a browser with its own profile, which is removed afterwards."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    with TemporaryDirectory(prefix="rlm-chromium-") as profile:
        options = ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = Chrome(options=options, service=ChromeService(str(CHROMEDRIVER)))
        try:
            resize(driver, width, height, dark=dark)
            yield driver
        finally:
            driver.quit()


def resize(driver: Chrome, width: int, height: int = 900, *, dark: bool = False) -> None:
    """Set the size of the page in CSS pixels, and whether dark colours are preferred."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def console_errors(driver: Chrome) -> list[str]:
    """Return the messages of the browser's console since the last call."""
    return [one["message"] for one in driver.get_log("browser") if one["level"] in {"SEVERE", "WARNING"}]
