"""The tear sheet as text, and drawn by a browser without a network."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sample_run import bar_frame, sample_run, trade_frame

from ibs_core.report.charts import chart_payload
from ibs_core.report.definitions import METRICS
from ibs_core.report.prices import _step, thin_bars
from ibs_core.report.run import EQUITY
from ibs_core.report.summary import summary_tables
from ibs_core.report.tear_sheet import render
from ibs_core.report.training_window import spelt_instant

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)>\"'&"
LARGEST_MB = 6.0


class Page(HTMLParser):
    """Collects the elements, the visible text and the payload of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.scripts = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        inside = self.tags[-1][0] if self.tags else ""
        (self.scripts if inside == "script" else self.text).append(data)

    @property
    def payload(self):
        return json.loads(self.scripts[0])

    @property
    def words(self):
        return " ".join(self.text)


@pytest.fixture(scope="module")
def run():
    return sample_run()


@pytest.fixture(scope="module")
def page(run):
    return Page(render(run))


def test_the_page_loads_nothing_and_forbids_loading(page):
    names = {name for _, attrs in page.tags for name in attrs}
    assert not names & {"src", "href", "srcset", "action", "onclick", "onerror"}
    assert not [tag for tag, _ in page.tags if tag in {"link", "img", "iframe", "object", "base"}]
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_the_same_run_gives_the_same_page(run):
    assert render(run) == render(run)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.key)
def test_a_statistic_stands_beside_its_definition(page, metric):
    assert metric.label in page.text
    assert metric.definition in page.text


def test_headline_statistics_show_their_definition_on_hover_and_focus(page):
    terms = [a for tag, a in page.tags if a.get("class") == "term" and "tabindex" in a]
    tips = [a for tag, a in page.tags if a.get("class") == "tip"]
    assert len(terms) == len(tips) == 12


def test_generated_data_short_samples_and_warnings_are_announced(run):
    words = Page(render(sample_run(n_trades=30, n_bars=1_200))).words
    assert "Generated data." in words
    assert "Short sample." in words
    assert "3 minutes outside the calendar were kept" in words


def test_a_long_run_on_real_data_has_no_banner():
    tags = Page(render(sample_run(generated_data=False, warnings=[]))).tags
    assert not [a for _, a in tags if a.get("class") == "note"]


def test_text_from_outside_cannot_become_markup(run):
    bars = {HOSTILE: run.bars["ES"]}
    stats = {
        **run.stats,
        "by_symbol": {HOSTILE: run.stats["by_symbol"]["ES"]},
        "blocked": {HOSTILE: {HOSTILE: 1}},
        "open_positions": [
            {"instrument": HOSTILE, "quantity": 1, "entry_time": HOSTILE, "entry_price": 1.0,
             "mark": 2.0, "open_usd": 3.0}
        ],
    }  # fmt: skip
    meta = {**run.meta, "command": HOSTILE, "warnings": [HOSTILE], "versions": {HOSTILE: HOSTILE}}
    meta |= dict.fromkeys(("data_digest", "contract_map_digest", "config_hash"), HOSTILE)
    hostile = replace(run, bars=bars, stats=stats, meta=meta, config_yaml=HOSTILE)

    html = render(hostile)

    found = Page(html)
    assert [tag for tag, _ in found.tags].count("script") == 3
    assert "img" not in [tag for tag, _ in found.tags]
    assert HOSTILE not in html
    assert list(found.payload["prices"]) == [HOSTILE]
    assert html.count(escape(HOSTILE)) >= 9


def test_every_trade_is_on_the_price_chart(run):
    prices = chart_payload(run)["prices"]
    assert list(prices) == ["ES", "NQ", "GC"]
    assert len(prices["ES"]["net"]["bdata"]) == 4 * -(-100 * 4 // 3)  # 100 float32 in base64


def test_merged_bars_keep_the_extremes_and_both_ends():
    bars = bar_frame("ES", 1_003, np.random.default_rng(1))
    thin = thin_bars(bars, 100)
    assert thin.schema == bars.schema
    assert thin.height == 92  # eleven in one
    assert (thin["high"].max(), thin["low"].min()) == (bars["high"].max(), bars["low"].min())
    assert (thin["open"][0], thin["close"][-1]) == (bars["open"][0], bars["close"][-1])
    assert (thin["start"][0], thin["end"][-1]) == (bars["start"][0], bars["end"][-1])
    assert thin_bars(bars, 1_003).equals(bars)


@pytest.mark.parametrize(
    ("moves", "step"),
    [([0.25, -1.5, 0.0], 0.25), ([0.00005, 0.00015], 0.00005), ([0.0], 1.0), ([0.01, 640.0], 0.02)],
)
def test_prices_are_stepped_in_ticks_or_as_coarse_as_sixteen_bits_need(moves, step):
    assert _step(np.array(moves)) == pytest.approx(step)


def test_a_large_run_stays_below_six_megabytes():
    run = sample_run(n_trades=3_000, n_bars=60_000)
    assert len(render(run).encode()) < LARGEST_MB * 1e6


def trained_run(n_inside):
    """A run of ES whose first `n_inside` trades, by exit, lie in the window of its model."""
    run = sample_run(n_trades=60, n_bars=3_000, symbols=("ES",))
    apart = run.trades.sort("exit_time").head(n_inside)
    last = apart["exit_time"].dt.epoch("ns").max()
    version = "<b>v1</b>"
    windows = {
        "ES": {
            "version": version,
            "first_decision": "2020-12-31T00:00:00.000000000Z",
            "last_label_end": spelt_instant(last),
            "trades": n_inside,
            "of": 60,
        }
    }
    total = run.stats["total"]
    headline = dict.fromkeys(total) | {"trades": 60 - n_inside, "sessions": 0}
    inner = total | {"trades": n_inside}
    stats = run.stats | {
        "total": headline,
        "training_windows": windows,
        "inside_training": {"sessions": 9, "total": inner, "by_symbol": {"ES": inner}},
    }
    return replace(run, stats=stats)


def test_what_a_model_was_trained_on_is_shown_apart():
    run = trained_run(40)
    page = Page(render(run))
    assert "40 of 60 trades lie in a training window; these numbers leave them out." in page.words
    assert "Inside training windows" in page.words
    assert "ES <b>v1</b>" in page.words  # as text
    assert "2020-12-31 to " in page.words
    (bars,) = page.payload["distribution"]["data"]
    assert sum(bars["y"]) == 20
    shade = page.payload["equity"]["layout"]["shapes"][1]
    last = run.trades.sort("exit_time")["exit_time"][39]
    assert (shade["x0"], shade["x1"]) == (str(run.equity["session_date"][0]), str(last.date()))


def test_a_run_of_training_trades_only_has_no_headline_and_says_so():
    page = Page(render(trained_run(60)))
    assert "No out-of-sample trade" in page.words
    assert "None" not in page.words
    assert page.payload["distribution"] is None
    assert "distribution" not in [attrs.get("id") for _, attrs in page.tags]


def test_a_run_without_models_says_nothing_of_training(page):
    assert "raining" not in page.words
    assert len(page.payload["equity"]["layout"]["shapes"]) == 1


def test_a_run_without_trades_says_so():
    words = Page(render(sample_run(n_trades=0, n_bars=1_200))).words
    assert "No trades." in words
    assert "NaN" not in words
    assert "None" not in words


def test_a_run_without_a_single_session_renders(run):
    from ibs_core.report.metrics import compute

    empty = run.equity.clear()
    assert empty.schema == EQUITY
    stats = compute(run.trades.clear(), empty, capital=1_000.0, symbols={})
    words = Page(
        render(replace(run, trades=run.trades.clear(), equity=empty, stats=stats, bars={}))
    )
    assert "No session closed in this period." in words.words


def test_neither_plotly_nor_rich_is_imported_before_it_is_needed():
    code = (
        "import sys, ibs_core.report.tear_sheet, ibs_core.report.summary;"
        "sys.exit(bool({'plotly', 'rich'} & sys.modules.keys()))"
    )
    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_summary_cuts_no_number(run, width):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    with console.file:
        for table in summary_tables(run.stats):
            console.print(table)
    text = console.export_text()
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert [name in text for name in ("Symbols", "Exits", "Blocked entries", "Total")] == [True] * 4


def test_the_terminal_summary_of_no_trades_is_one_table():
    stats = {**sample_run(n_trades=0, n_bars=1_200).stats, "blocked": {}}
    assert len(summary_tables(stats)) == 1


def test_the_outer_bars_of_the_distribution_hold_everything_beyond():
    nets = [-90_000.0, *range(-500, 500, 5), 80_000.0]
    now = datetime(2025, 1, 2, tzinfo=UTC)
    rows = [{"net_usd": net, "entry_time": now, "exit_time": now} for net in nets]
    run = replace(sample_run(n_bars=1_200, n_trades=30), trades=trade_frame(rows))

    (bars,) = chart_payload(run)["distribution"]["data"]

    assert sum(bars["y"]) == len(nets)
    assert -600 < min(bars["x"]) < max(bars["x"]) < 600
    assert bars["text"][0].startswith("below")
    assert bars["text"][-1].endswith("or more")
    sides = {(x < 0, colour) for x, colour in zip(bars["x"], bars["marker"]["color"], strict=True)}
    assert sides == {(True, "--loss"), (False, "--win")}


needs_browser = pytest.mark.skipif(
    not (CHROMIUM.exists() and DRIVER.exists()), reason="Chromium is not installed"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, tmp_path):
    """A function that opens a run's page and waits until it is drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    def show(run, *, width=1280, scheme="light"):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        (tmp_path / "report.html").write_text(render(run), "utf-8")
        browser.get((tmp_path / "report.html").as_uri())
        wait = WebDriverWait(browser, 30)
        drawn = "return document.documentElement.dataset.drawn === 'yes'"
        wait.until(lambda driver: driver.execute_script(drawn))
        return browser

    return show


def charts_drawn(driver):
    script = "return [...document.querySelectorAll('.chart')].map((c) => [c.id, c.querySelectorAll('svg.main-svg').length > 0])"
    return dict(driver.execute_script(script))


def console_messages(driver):
    return [entry["message"] for entry in driver.get_log("browser")]


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_draws_its_charts_without_a_console_message(run, opened, width, scheme):
    driver = opened(run, width=width, scheme=scheme)

    assert console_messages(driver) == []
    assert charts_drawn(driver) == {"equity": True, "distribution": True, "price": True}
    sizes = driver.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert sizes[0] <= sizes[1], "the page scrolls sideways"
    ink = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (ink == "rgb(14, 18, 23)") == (scheme == "dark")


@needs_browser
@pytest.mark.parametrize("n_inside", [40, 60])
def test_a_page_of_training_windows_draws_without_a_console_message(opened, n_inside):
    driver = opened(trained_run(n_inside), width=390, scheme="dark")
    assert console_messages(driver) == []
    assert charts_drawn(driver) == {"equity": True, "price": True} | (
        {"distribution": True} if n_inside < 60 else {}
    )
    shade = "return document.querySelectorAll('#equity .shapelayer path').length"
    assert driver.execute_script(shade) == 2
    sizes = driver.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert sizes[0] <= sizes[1], "the page scrolls sideways"


@needs_browser
def test_the_page_asks_the_network_for_nothing(run, opened):
    driver = opened(run)
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [
        e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"
    ]
    assert urls
    assert not {url.split(":")[0] for url in urls} & {"http", "https", "ws", "wss"}


@needs_browser
@pytest.mark.parametrize("chart", ["equity", "distribution", "price"])
def test_plotly_knows_every_attribute_of_a_chart(run, opened, chart):
    from plotly.graph_objects import Figure

    driver = opened(run)
    figure = driver.execute_script(
        "const c = document.getElementById(arguments[0]);"
        "const plain = (k, v) => (ArrayBuffer.isView(v) ? Array.from(v) : v);"
        "return JSON.stringify({ data: c.data, layout: c.layout }, plain)",
        chart,
    )
    Figure(json.loads(figure))  # refuses what it does not know


@needs_browser
def test_a_close_up_of_another_symbol_shows_candles_entries_and_exits(run, opened):
    driver = opened(run)
    driver.find_element("css selector", '#symbols [data-value="NQ"]').click()
    driver.find_element("css selector", '#spans [data-value="30"]').click()
    # A month of hours is more than a close-up holds.
    driver.execute_script(
        "const r = document.getElementById('price').layout.xaxis.range;"
        "Plotly.relayout('price', {'xaxis.range[0]': r[1] - 7 * 864e5, 'xaxis.range[1]': r[1]})"
    )
    found = driver.execute_script(
        "return document.getElementById('price').data.map((t) => t.name ?? t.type)"
    )
    assert found[0] == "candlestick"
    assert found[-2:] == ["entry", "exit"]
    assert console_messages(driver) == []


@needs_browser
def test_the_price_chart_shows_the_closes_of_the_bars(opened):
    run = sample_run(n_trades=30, n_bars=3_000, symbols=("CL",))
    driver = opened(run)
    script = "const t = document.getElementById('price').data[0]; return [Array.from(t.x), Array.from(t.y)]"
    times, closes = driver.execute_script(script)
    assert times == run.bars["CL"]["end"].dt.epoch("ms").to_list()
    assert closes == pytest.approx(run.bars["CL"]["close"].to_list(), abs=0.001)


@needs_browser
def test_the_charts_follow_a_change_of_colour_scheme(run, opened):
    driver = opened(run, scheme="light")
    colour = "return document.getElementById('equity').data[0].line.color"
    light = driver.execute_script(colour)
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 10).until(lambda d: d.execute_script(colour) != light)


@needs_browser
@pytest.mark.parametrize("with_bars", [True, False])
def test_a_page_without_trades_draws_what_there_is(opened, with_bars):
    run = sample_run(n_trades=0, n_bars=1_200)
    driver = opened(run if with_bars else replace(run, bars={}))
    assert console_messages(driver) == []
    expected = {"equity": True} | ({"price": True} if with_bars else {})
    assert charts_drawn(driver) == expected


@needs_browser
def test_a_hostile_symbol_runs_no_script(run, opened):
    hostile = replace(run, bars={HOSTILE: run.bars["ES"]})
    driver = opened(hostile)  # an alert() would fail every later call
    assert console_messages(driver) == []
    assert charts_drawn(driver)["price"]
