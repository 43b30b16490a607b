"""The page's pure modules, run in a real Chromium from the files themselves; no server, no network."""

from __future__ import annotations

import mimetypes
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect, sync_playwright

from telemetry.catalogue import CATALOGUE

from .test_assets import WEB, file_at

ORIGIN = "http://quantrac.test"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on PATH"),
]


def _serve(route: Route) -> None:
    path = route.request.url.removeprefix(ORIGIN)
    file = WEB / "login.html" if path.startswith("/login") else file_at(path)
    if not file.is_file():
        route.fulfill(status=404)
        return
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    headers = {"Content-Type": kind, "Content-Security-Policy": POLICY}
    route.fulfill(status=200, headers=headers, body=file.read_bytes())


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.route("**/*", _serve)
        page.goto(f"{ORIGIN}/login")
        expect(page.get_by_test_id("login-form")).to_be_visible()
        yield page
        browser.close()


def run(page: Page, module: str, body: str, argument: Any = None) -> Any:
    """What `body` (JavaScript with `m`, the module, and `a`, the argument) answers."""
    return page.evaluate(f"async (a) => {{ const m = await import('/static/{module}'); {body} }}", argument)


def reading(second: float, value: float, quality: int = 1, channel: int = 0) -> dict[str, Any]:
    return {
        "dev_eui": "a8",
        "channel": channel,
        "value": value,
        "quality": quality,
        "time": f"2026-11-21T{int(second) // 3600:02}:{int(second) // 60 % 60:02}:{second % 60:06.3f}Z",
    }


def columns(page: Page, readings: list[dict[str, Any]]) -> list[list[float | None]]:
    """Columns of `series.js`, with "-" where a line has nothing, counted from the first second."""
    body = """
        const series = new Map(); m.add(series, a);
        const { data } = m.columns(series);
        const shown = (column) => Array.from(column, (v) => (v === undefined ? "-" : v));
        return [data[0].map((second) => second - data[0][0]), ...data.slice(1).map(shown)];
    """
    result: list[list[float | None]] = run(page, "series.js", body, readings)
    return result


def test_a_missing_hour_is_a_gap_and_a_slower_pace_is_none(page: Page) -> None:
    usual = [0, 300, 600, 900, 1200, 1500]
    after_hour = [5100, 5400, 5700, 6000]
    assert run(page, "series.js", "return m.gaps(a)", [*usual, *after_hour]) == [3300]
    slower = [0, 30, 60, 90, 120, 420, 720, 1020, 1320]
    assert run(page, "series.js", "return m.gaps(a)", slower) == []
    assert run(page, "series.js", "return m.gaps(a)", [0]) == []


def test_two_readings_close_together_make_no_gaps(page: Page) -> None:
    pairs = [second + shift for second in range(0, 3000, 300) for shift in (0, 0.4)]
    assert run(page, "series.js", "return m.gaps(a)", pairs) == []


def test_failed_readings_leave_the_line_and_stay_as_points(page: Page) -> None:
    table = columns(
        page, [reading(0, 1), reading(60, 99, 4), reading(120, 2, 3), reading(180, 3), reading(240, 0, 9)]
    )
    assert table == [[0, 60, 120, 180, 240], [1, "-", 2, 3, None], ["-", 99, 2, "-", "-"]]


def test_order_and_repeats_do_not_matter(page: Page) -> None:
    readings = [reading(s, s / 60, channel=c) for s in (0, 60, 120) for c in (0, 1)]
    assert columns(page, readings) == columns(page, [*reversed(readings), *readings])


def test_what_was_fetched_as_hours_has_a_band_and_its_gap(page: Page) -> None:
    hours = {
        "resolution": "1h", "thinned": False,
        "series": [{
            "dev_eui": "a8", "channel": 0, "time": [f"2026-11-21T0{h}:00:00Z" for h in range(3)],
            "value": [1, None, 3], "min": [0, None, 2], "max": [2, None, 9], "count": [6, 0, 6],
        }],
    }  # fmt: skip
    body = "const s = new Map(); m.add(s, m.readingsOf(a)); return m.columns(s)"
    table = run(page, "series.js", body, hours)
    assert table["banded"] is True
    begin = 1795221000  # 00:30, the middle of the first hour
    assert table["data"][0] == [begin, begin + 3600, begin + 7200]
    assert [table["data"][n] for n in (1, 3, 4)] == [[1, None, 3], [2, None, 9], [0, None, 2]]


def test_of_thinned_readings_only_the_servers_gaps_count(page: Page) -> None:
    seconds = [0, 1, 2, 3, 600, 650, 700]  # what was left out looks like a gap
    line = {
        "dev_eui": "a8", "channel": 0, "time": [f"2026-11-21T00:{s // 60:02}:{s % 60:02}Z" for s in seconds],
        "value": [1, 1, 1, 1, 1, None, 2], "quality": [1, 1, 1, 1, 1, None, 1],
    }  # fmt: skip
    answer = {"resolution": "raw", "thinned": True, "series": [line]}
    body = "const s = new Map(); m.add(s, m.readingsOf(a)); return m.columns(s, Infinity).data[1]"
    assert run(page, "series.js", body, answer) == line["value"]


def test_every_unit_of_the_catalogue_is_shown_as_people_write_it(page: Page) -> None:
    units = sorted({metric.unit for metric in CATALOGUE.values()})
    shown = dict(zip(units, run(page, "format.js", "return a.map(m.unit)", units), strict=True))
    assert not [
        unit for unit, text in shown.items() if set(text) & set("[]{}*.") or text.endswith(("2", "3"))
    ]
    assert (shown["dB{mW}"], shown["10*6.m3"], shown["{MPN}/(100.mL)"]) == ("dBm", "10⁶ m³", "MPN/100 mL")


def test_numbers_and_times_are_those_of_vietnam(page: Page) -> None:
    body = """
        const { lang } = await import("/static/i18n.js");
        lang.value = a;
        const metric = { unit: "m", range: [-20, 3200], precision: 2 };
        return [m.number(1234.5, 2), m.measured(104.5, metric), m.number(null), m.unit("ug/m3"),
          m.measured(1, { unit: "1", range: [0, 1], precision: 0 }), m.clock("2026-11-21T18:05:00Z"),
          m.day("2026-11-21T18:05:00Z"), m.duration(2 * 3600e3 + 5 * 60e3), m.ago("2026-11-21T18:00:00Z",
          Date.parse("2026-11-21T18:04:00Z")), m.ago(null, 0), m.clock("never")];
    """
    assert run(page, "format.js", body, "vi") == [
        "1.234,50", "104,50", "–", "µg/m³", "Có", "01:05", "22/11", "2 giờ 5 phút",
        "4 phút trước", "chưa bao giờ", "–",
    ]  # fmt: skip
    assert run(page, "format.js", body, "en") == [
        "1,234.50", "104.50", "–", "µg/m³", "Yes", "01:05", "22/11", "2 h 5 min",
        "4 min ago", "never", "–",
    ]  # fmt: skip


def test_installation_constants_are_read_line_by_line(page: Page) -> None:
    body = "try { return m.parseVariables(a) } catch (error) { return error.message }"
    assert run(page, "devices.js", body, "sensor_elevation_m = 110,25\n\n b=-2.5") == {
        "sensor_elevation_m": 110.25,
        "b": -2.5,
    }
    assert run(page, "devices.js", body, "a = 1\nb = ") == "b ="
    mapping = {
        "readings": [{"offset": {"variable": "zero_m"}}, {"offset": {"variable": "zero_m"}}, {"offset": 3}]
    }
    assert run(page, "devices.js", "return m.variableNames(a)", mapping) == ["zero_m"]


def test_a_chart_marks_each_rise_at_its_own_level_unless_it_was_withdrawn(page: Page) -> None:
    transitions = [
        {"seq": 1, "at": "t1", "kind": "opened", "to_level": 1, "label": "BĐ1", "withdraws": None},
        {"seq": 2, "at": "t2", "kind": "escalated", "to_level": 3, "label": "BĐ3", "withdraws": None},
        {"seq": 3, "at": "t2", "kind": "withdrawn", "to_level": 1, "label": None, "withdraws": 2},
        {"seq": 4, "at": "t3", "kind": "escalated", "to_level": 2, "label": "BĐ2", "withdraws": None},
        {"seq": 5, "at": "t4", "kind": "resolved", "to_level": 0, "label": "BĐ2", "withdraws": None},
    ]
    assert run(page, "marks.js", "return m.rises(a)", transitions) == [
        {"at": "t1", "level": 1, "label": "BĐ1"},
        {"at": "t3", "level": 2, "label": "BĐ2"},
    ]


def test_devices_that_measure_the_same_are_told_apart(page: Page) -> None:
    latest = [
        {"dev_eui": "a1", "metric": "water.level", "channel": 0},
        {"dev_eui": "a2", "metric": "water.level", "channel": 0},
        {"dev_eui": "a1", "metric": "battery.voltage", "channel": 0},
        {"dev_eui": "a1", "metric": "battery.voltage", "channel": 1},
    ]
    assert run(page, "names.js", "return [...m.sharedSeries(a)]", latest) == ["water.level|0"]
    devices = [
        {"dev_eui": "24e124136b501111", "name": "Radar"},
        {"dev_eui": "24e124136b502222", "name": "Phao"},
        {"dev_eui": "24e124136b503333", "name": "Phao"},
        {"dev_eui": "24e124136b504444", "name": ""},
    ]
    assert run(page, "names.js", "return [...m.callNames(a).values()]", devices) == [
        "Radar", "Phao …2222", "Phao …3333", "…4444",
    ]  # fmt: skip


def test_a_problem_is_told_once(page: Page) -> None:
    body = """
        const { lang } = await import("/static/i18n.js");
        lang.value = "en";
        const text = new m.Problem(...a).text;
        lang.value = "vi";
        return text;
    """
    refused = [422, {"detail": "new: too short", "errors": [{"field": "new", "problem": "too short"}]}]
    assert run(page, "api.js", body, refused) == "Not valid · new: too short"
    assert run(page, "api.js", body, [409, {"detail": "It has ended."}]).endswith(" · It has ended.")
    assert run(page, "api.js", body, [404, {"detail": "There is no alert."}]) == "Not found"


def test_the_login_page_speaks_both_languages(page: Page) -> None:
    switch = page.get_by_test_id("lang-switch")
    switch.get_by_text("EN").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "en"
    switch.get_by_text("VI").click()
    expect(page.get_by_role("button", name="Đăng nhập")).to_be_visible()
    assert page.evaluate("localStorage.getItem('quantrac.lang')") == "vi"


def test_a_fault_is_told_in_the_readers_language_or_the_servers_words(page: Page) -> None:
    body = """
        const { lang } = await import("/static/i18n.js");
        lang.value = a.lang;
        const text = m.told(a.fault);
        lang.value = "vi";
        return text;
    """
    fault = {
        "kind": "ingest-member-silent",
        "subject": "thu-1",
        "detail": "words",
        "began_at": "2026-11-21T18:05:00Z",
    }
    told = run(page, "faults.js", body, {"lang": "vi", "fault": fault})
    assert told.startswith("Bộ thu dữ liệu thu-1 không phản hồi từ ")
    assert "01:05" in told
    assert "is silent since" in run(page, "faults.js", body, {"lang": "en", "fault": fault})
    assert run(page, "faults.js", body, {"lang": "en", "fault": {**fault, "kind": "new"}}) == "words"


def test_of_answers_that_cross_the_newest_holds_and_a_failed_one_takes_nothing_away(page: Page) -> None:
    body = """
        const { html, render } = await import('/static/lib.js');
        const { resynced } = await import('/static/store.js');
        const asked = [], told = [];
        const fetched = window.fetch;
        window.fetch = (url, ...rest) => String(url).includes("/series?")  // other modules ask too
            ? new Promise((resolve) => asked.push(resolve)) : fetched(url, ...rest);
        const settled = () => new Promise((resolve) => setTimeout(resolve)); // after all that is waiting
        const requests = async (count) => { while (asked.length < count) await settled(); };
        const answer = (value) => new Response(JSON.stringify({
            from: "", to: new Date().toISOString(), resolution: "1h", thinned: false, series: [{
                dev_eui: "a8", channel: 0, time: [new Date().toISOString()], value: [value], min: [value],
                max: [value], count: [1] }] }), { headers: { "Content-Type": "application/json" } });
        let seen;
        const Probe = () => { seen = m.useReadings("s", "water.level", 86400); return html`<i />`; };
        const box = document.createElement("div");
        render(html`<${Probe} />`, box);
        await requests(1);
        resynced.value += 1;
        await requests(2);
        asked[1](answer(2));
        while (seen.state.value === "loading") await settled();
        asked[0](answer(1));
        for (let turn = 0; turn < 10; turn += 1) await settled();
        told.push(seen.state.value, seen.table.value.data[1][0]);
        resynced.value += 1;
        await requests(3);
        asked[2](new Response("", { status: 500 }));
        for (let turn = 0; turn < 10; turn += 1) await settled();
        told.push(seen.state.value, seen.table.value.data[1][0]);
        render(null, box);
        window.fetch = fetched;
        return told;
    """
    assert run(page, "readings.js", body) == ["ready", 2, "ready", 2]
