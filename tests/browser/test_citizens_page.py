"""The citizen's page in a real browser, as wide as a phone: what it says, what it sends; it runs nobody's text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.operations.limits import Limits
from tests.fixtures.citizens import ADDRESS, PDF, REMEDIES, decision, digest, served
from tests.fixtures.gateway import Gateway, node_without_chain, serving
from tests.fixtures.parts import SqliteFiles, Template
from tests.fixtures.proceedings import made, officer, take

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

PHONE = {"width": 360, "height": 740}


@pytest.fixture
def gateway(template: Template, tmp_path: Path) -> Iterator[Gateway]:
    """A serving site; the page does not care for its database."""
    node = node_without_chain(tmp_path / "node", SqliteFiles(template).new(tmp_path), template.agent)
    with serving(node) as opened:
        yield opened


class Visit:
    """A page of a phone's size whose requests go to the gateway; what it asked for is kept."""

    def __init__(self, page: Page, gateway: Gateway) -> None:
        self.page, self._gateway = page, gateway
        self.urls: list[str] = []
        self.wrong: list[str] = []
        page.route("**/*", self._answer)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", self._said)

    def open(self, url: str) -> None:
        """Opens a link as from a scanned code, and waits for what the page makes of it."""
        self.page.goto("about:blank")
        self.page.goto(url)
        self.page.locator("#status, #problem").wait_for()

    def _answer(self, route: Route) -> None:
        request = route.request
        self.urls.append(request.url)
        path = request.url.removeprefix(ADDRESS)
        headers = {"content-type": request.headers.get("content-type", "")}
        answer = self._gateway.client(None).request(
            request.method, path, content=request.post_data_buffer, headers=headers
        )
        route.fulfill(status=answer.status_code, headers=dict(answer.headers), body=answer.content)

    def _said(self, message: Any) -> None:
        if message.type == "error" and "the server responded with a status" not in message.text:
            self.wrong.append(message.text)


@pytest.fixture
def visit(browser: Browser, gateway: Gateway) -> Iterator[Visit]:
    context = browser.new_context(viewport=PHONE, locale="zh-CN")
    opened = Visit(context.new_page(), gateway)
    yield opened
    context.close()
    assert opened.wrong == []


def choose(visit: Visit, name: str, data: bytes) -> str:
    """Chooses a file and returns what the page made of it."""
    visit.page.locator("input[type=file]").set_input_files(
        {"name": name, "mimeType": "application/pdf", "buffer": data}
    )
    visit.page.locator("#check:not([data-check=checking])").wait_for()
    return visit.page.locator("#check").get_attribute("data-check") or ""


def test_a_served_decision_is_checked_on_a_phone(visit: Visit, gateway: Gateway, tmp_path: Path) -> None:
    found = served(gateway, tmp_path)
    take(gateway, made([found.record_id]), "made")
    visit.open(found.url)
    page = visit.page
    assert page.locator("#status").get_attribute("data-status") == "in-force"
    assert page.locator("blockquote").inner_text() == REMEDIES
    assert "2026-03-03" in page.locator("#deadlines").inner_text()
    assert "health" in page.locator("#seen").inner_text()

    assert choose(visit, "决定书.pdf", PDF) == "same"
    assert digest() in page.locator("#check").inner_text()
    assert choose(visit, "决定书.pdf", PDF + b" ") == "different"
    assert choose(visit, "empty.pdf", b"") == "different"

    page.get_by_role("button", name="English").click()
    assert page.locator("h1").inner_text() == "Check a decision"
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    # the token is in no URL that was asked for, and nothing else was asked for
    assert [url.partition("#")[0] for url in visit.urls] == [f"{ADDRESS}/c", f"{ADDRESS}/v1/citizens/decision"]
    assert not any(found.token in url.partition("#")[0] for url in visit.urls)


def test_what_became_of_it_is_said(visit: Visit, gateway: Gateway, tmp_path: Path) -> None:
    found = served(gateway, tmp_path)
    take(gateway, decision(amends=found.record_id, decision_number="望消罚〔2026〕9号"), "corrected")
    visit.open(found.url)
    assert visit.page.locator("#status").get_attribute("data-status") == "corrected"
    assert "望消罚〔2026〕9号" in visit.page.locator("#status").inner_text()


def test_codes_that_lead_nowhere_say_what_to_do(visit: Visit, gateway: Gateway, tmp_path: Path) -> None:
    found = served(gateway, tmp_path)
    officer(gateway).delete(f"/v1/citizen-links/{found.link}")
    expected = {
        found.url: "link-revoked",
        f"{ADDRESS}/c#{'A' * 22}": "not-found",
        f"{ADDRESS}/c#nonsense": "bad-request",
        f"{ADDRESS}/c": "noToken",
    }
    for url, problem in expected.items():
        visit.open(url)
        assert visit.page.locator("#problem").get_attribute("data-code") == problem
        assert visit.page.locator("#deadlines").count() == 0


def test_text_of_the_record_is_text(visit: Visit, gateway: Gateway, tmp_path: Path) -> None:
    hostile = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"
    found = served(gateway, tmp_path, remedies=hostile, decision_number=hostile[:90])
    visit.open(found.url)
    assert visit.page.locator("blockquote").inner_text() == hostile
    assert visit.page.locator("main img, main script").count() == 0
    assert choose(visit, f"{hostile}.pdf", b"x") == "different"
    assert visit.page.title() != "run"
    # and if text became markup after all, the page's policy would not run it
    visit.page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<b id=b onclick=\"1\">')")
    blocked = visit.page.evaluate(
        """() => new Promise((resolve) => {
            document.addEventListener("securitypolicyviolation", (event) => resolve(event.violatedDirective));
            const script = document.createElement("script");
            script.textContent = "document.title = 'run'";
            document.body.append(script);
        })"""
    )
    assert blocked.startswith("script-src")
    visit.wrong.clear()  # the browser's own words on what it blocked
    assert visit.page.title() != "run"


def test_who_asks_too_often_is_told_to_wait_and_may_ask_again(visit: Visit, gateway: Gateway, tmp_path: Path) -> None:
    found, limits = served(gateway, tmp_path), gateway.site.citizen_limits
    gateway.site.citizen_limits = Limits(replace(gateway.site.settings, rate_per_second=0.1, rate_burst=1))
    gateway.client(None).post("/v1/citizens/decision", json={"token": "A" * 22})
    visit.open(found.url)
    assert visit.page.locator("#problem").get_attribute("data-code") == "rate-exceeded"
    gateway.site.citizen_limits = limits
    visit.page.get_by_role("button", name="重试").click()
    visit.page.locator("#status").wait_for()
