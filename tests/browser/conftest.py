"""A real browser: the system's Chromium, driven by Playwright; without either these tests are skipped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ledger.verifier_html import build_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


# of a module, not of the session: until it is stopped, Playwright leaves an event loop running in the tests' thread
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine; scripts/services start installs it")
    # root, as in a container, has no sandbox
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=chromium, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_page(tmp_path_factory.mktemp("dist") / "yunxi-verify.html")


@pytest.fixture
def page(browser: Browser, built: Path) -> Iterator[Page]:
    """The page, opened from the disk without a network. Nothing may go wrong in it unseen."""
    context = browser.new_context(offline=True, locale="zh-CN")
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    opened.on(
        "request", lambda request: None if request.url.startswith(("file:", "blob:")) else wrong.append(request.url)
    )
    opened.goto(built.as_uri())
    opened.get_by_role("heading", level=2).first.wait_for()
    yield opened
    context.close()
    assert wrong == []
