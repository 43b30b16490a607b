"""The page in a real Chromium, on the real stack, while a flood is played."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import async_playwright, expect

from tests.e2e.conftest import PASSWORD, Installation
from tests.program import Program
from tests.wait import PATIENCE, until

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on PATH"),
]


@pytest.fixture
async def flooded(tmp_path: Path) -> AsyncIterator[Installation]:
    """An installation on which the La Ngà flood runs, five times as fast as in the demo."""
    made = Installation(tmp_path / "data")
    await made.start()
    flood = Program(
        "simulate", "la-nga-flood", "--register", "--keep-going", "--speed", "3000",
        "--data", str(made.folder), env=made.env, cwd=made.folder.parent,
    )  # fmt: skip
    yield made
    await asyncio.to_thread(flood.stop)
    await made.stop()


async def test_an_officer_sees_the_flood_come_and_acknowledges_it(flooded: Installation) -> None:
    complaints: list[str] = []
    expect.set_options(timeout=PATIENCE * 1000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page(locale="vi-VN")
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))

        await page.goto(flooded.url)
        await expect(page).to_have_url(re.compile("/login"))
        await page.fill("input[name=login]", "admin")
        await page.fill("input[name=password]", flooded.first_password)
        await page.keyboard.press("Enter")
        form = page.get_by_test_id("password-form")
        await expect(form).to_be_visible()
        boxes = form.locator("input[type=password]")
        await boxes.nth(0).fill(flooded.first_password)
        for number in range(1, await boxes.count()):
            await boxes.nth(number).fill(PASSWORD)
        await page.keyboard.press("Enter")

        value = page.get_by_test_id("station-value-phu-hiep")
        await expect(value).to_be_visible()
        await expect(page.get_by_test_id("simulated-banner")).to_be_visible()
        before = await value.inner_text()
        await expect(value).not_to_have_text(before)

        await page.evaluate("location.hash = '#/alerts'")
        row = page.locator("[data-testid^=alert-row-]").filter(has_text="Phú Hiệp").first
        await expect(row).to_be_visible()
        await expect(row).to_contain_text("BĐ2")
        await expect(row).to_have_attribute("data-state", "firing")
        await row.locator("[data-testid^=ack-]").first.click()
        await page.locator("[data-testid^=ack-send-]").first.click()
        await expect(row).to_have_attribute("data-state", "acked")

        await page.get_by_test_id("lang-switch").get_by_text("EN").click()
        await expect(page.locator("html")).to_have_attribute("lang", "en")
        await browser.close()
    assert complaints == []
    with flooded.client() as api:
        alerts = api.get("/alerts", params={"station": "phu-hiep"}).json()["items"]
        assert alerts[0]["acked_by"] == "admin"
        await until(lambda: api.get(f"/alerts/{alerts[0]['id']}/transitions").json()["items"])
        kinds = [t["kind"] for t in api.get(f"/alerts/{alerts[0]['id']}/transitions").json()["items"]]
        assert kinds[:2] == ["opened", "escalated"]
        assert "acknowledged" in kinds
