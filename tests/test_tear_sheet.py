"""The tear sheet as text, and drawn by a browser without a network."""

import base64
import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from sample_run import CAPITAL, FACTS, bar_frame, sample_run, trade_frame

from ibs_core.report.charts import chart_payload
from ibs_core.report.comparison_page import render_comparison
from ibs_core.report.definitions import METRICS
from ibs_core.report.metrics import compute
from ibs_core.report.prices import _step, thin_bars
from ibs_core.report.run import DECISIONS, EQUITY
from ibs_core.report.summary import summary_tables
from ibs_core.report.tear_sheet import render
from ibs_core.report.training_window import spelt_instant
from ibs_core.report.veto_panel import veto_rows
from ibs_core.sweep.grid import Axis, Grid
from ibs_core.sweep.page import render as sweep_page
from ibs_core.sweep.results import Found

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
ALWAYS = {"equity", "rolling", "forward", "price"}
OF_TRADES = {"distribution", "mae", "mfe", "hours", "weekdays", "costs"}
HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)>\"'&"
LARGEST_MB = 6.5


class Page(HTMLParser):
    """Collects the elements, the visible text and the payload of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.scripts = [], [], {}
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        inside, attrs = self.tags[-1] if self.tags else ("", {})
        if inside == "script":
            self.scripts.setdefault(attrs.get("id"), data)
        else:
            self.text.append(data)

    @property
    def payload(self):
        return json.loads(self.scripts["payload"])

    @property
    def words(self):
        return " ".join(self.text)


@pytest.fixture(scope="module")
def run():
    return sample_run(n_bars=9_900)


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
        "blocked": {HOSTILE: {HOSTILE: 1, f"{HOSTILE} missing": 2}},
        "forward_returns": {
            "TOTAL": run.stats["forward_returns"]["TOTAL"],
            HOSTILE: run.stats["forward_returns"]["ES"],
        },
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
    assert [tag for tag, _ in found.tags].count("script") == 4
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
    assert thin["merged"].to_list() == [11] * 91 + [2]
    assert thin_bars(thin, 100).equals(thin)
    assert thin_bars(bars, 1_003).equals(bars)


@pytest.mark.parametrize(
    ("moves", "step"),
    [([0.25, -1.5, 0.0], 0.25), ([0.00005, 0.00015], 0.00005), ([0.0], 1.0), ([0.01, 640.0], 0.02)],
)
def test_prices_are_stepped_in_ticks_or_as_coarse_as_sixteen_bits_need(moves, step):
    assert _step(np.array(moves)) == pytest.approx(step)


def test_a_large_run_stays_small():
    run = sample_run(n_trades=3_000, n_bars=60_000)
    assert len(render(run).encode()) < LARGEST_MB * 1e6


def decoded(packed):
    return np.frombuffer(base64.b64decode(packed["bdata"]), f"<{packed['dtype']}")


def test_the_drawdowns_of_the_chart_are_those_of_the_statistics(run):
    lines = {line["name"]: line for line in chart_payload(run)["charts"]["equity"]["data"]}
    total = run.stats["total"]
    assert -decoded(lines["Drawdown"]["y"]).min() == pytest.approx(total["max_drawdown_usd"])
    intrabar = -decoded(lines["Intrabar"]["y"]).min()
    assert intrabar == pytest.approx(total["max_drawdown_intrabar_usd"], abs=0.01)
    assert intrabar > total["max_drawdown_usd"]


def test_many_symbols_and_a_single_trade_have_every_panel():
    page = Page(render(crowded()))
    assert len(page.payload["prices"]) == 17
    assert len(page.payload["variants"]["forward"]) == 18
    single = Page(render(one_trade()))
    assert single.payload["charts"].keys() >= OF_TRADES
    assert "1 trade; below 100" in single.words
    for each in (page, single):
        assert "None" not in each.words
        assert "nan" not in each.words.lower().split()


def one_trade():
    """A run of one losing trade."""
    run = sample_run(n_trades=30, n_bars=3_000, symbols=("ES",))
    trades = run.trades.filter(run.trades["net_usd"] < 0)[:1]
    stats = run.stats | compute(trades, run.equity, capital=CAPITAL, symbols=FACTS)
    return replace(run, trades=trades, stats=stats)


def crowded(n_symbols=17):
    """A run of many symbols, each of which did the same."""
    run = sample_run(n_trades=60, n_bars=1_500, symbols=("ES",))
    names = [f"S{i:02d}" for i in range(n_symbols)]
    of_one = pl.col("symbol") == "ES"

    def each(frame):
        parts = [frame.filter(of_one).with_columns(symbol=pl.lit(name)) for name in names]
        return pl.concat([*parts, frame.filter(~of_one)])

    copied = {key: dict.fromkeys(names, run.stats[key]["ES"]) for key in ("by_symbol", "blocked")}
    forward = dict.fromkeys(names, run.stats["forward_returns"]["ES"])
    forward["TOTAL"] = run.stats["forward_returns"]["TOTAL"]
    return replace(
        run,
        stats=run.stats | copied | {"forward_returns": forward},
        trades=each(run.trades),
        equity=each(run.equity),
        lows=each(run.lows),
        bars=dict.fromkeys(names, run.bars["ES"]),
    )


def test_missing_features_are_announced():
    run = sample_run(n_trades=30, n_bars=1_500)
    blocked = {"ES": {"bar_rsi2 missing": 7, "ibs": 3}, "NQ": {"vetoed:missing day_ibs": 1_000}}
    words = Page(render(replace(run, stats=run.stats | {"blocked": blocked}))).words
    assert "Features missing." in words
    assert "day_ibs at 1,000 signal bars of NQ; bar_rsi2 at 7 signal bars of ES." in words


def test_what_a_model_did_is_told_from_the_decisions():
    page = Page(render(vetoing()))
    assert "v7" in page.words
    (bars,) = page.payload["charts"]["margins"]["data"]
    below = [
        n
        for n, colour in zip(bars["y"], bars["marker"]["color"], strict=True)
        if colour == "--loss"
    ]
    assert (sum(bars["y"]), sum(below)) == (40, 15)
    rows = veto_rows(vetoing())
    assert rows == [
        {"symbol": "ES", "version": "v7", "threshold": 0.5, "scored": 40, "below": 15, "vetoed": 15,
         "missing": 2, "vetoed_net_usd": None}
    ]  # fmt: skip


def vetoing():
    """A run with a model of ES: 25 candidates above the threshold, 15 below, 2 without a feature."""
    run = sample_run(n_trades=60, n_bars=1_500)
    window = {"version": "v7", "first_decision": "2019-01-01T00:00:00.000000000Z",
              "last_label_end": "2019-06-01T00:00:00.000000000Z", "trades": 0, "of": 60}  # fmt: skip
    when = datetime(2021, 3, 1, tzinfo=UTC)
    scores = [*np.linspace(0.5, 0.75, 25), *np.linspace(0.25, 0.49, 15)]
    rows = [
        (when, "ES", "entry", "taken" if score >= 0.5 else "vetoed", score, 0.5) for score in scores
    ]
    rows += [(when, "ES", "entry", "vetoed:missing day_ibs", None, 0.5)] * 2
    rows += [(when, "ES", "exit", "ibs", None, None)]
    decisions = pl.DataFrame(rows, schema=DECISIONS, orient="row")
    return replace(run, decisions=decisions, stats=run.stats | {"training_windows": {"ES": window}})


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
    assert "40 of 60 trades lie in a training window; the statistics leave them out" in page.words
    assert "Inside training windows" in page.words
    assert "ES <b>v1</b>" in page.words  # as text
    assert "2020-12-31 to " in page.words
    (bars,) = page.payload["charts"]["distribution"]["data"]
    assert sum(bars["y"]) == 20
    shade = page.payload["charts"]["equity"]["layout"]["shapes"][1]
    last = run.trades.sort("exit_time")["exit_time"][39]
    assert (shade["x0"], shade["x1"]) == (str(run.equity["session_date"][0]), str(last.date()))


def test_a_run_of_training_trades_only_has_no_headline_and_says_so():
    page = Page(render(trained_run(60)))
    assert "No out-of-sample trade" in page.words
    assert "None" not in page.words
    assert "distribution" not in page.payload["charts"]
    assert "distribution" not in [attrs.get("id") for _, attrs in page.tags]


def test_a_run_without_models_says_nothing_of_training(page):
    assert "raining" not in page.words
    assert len(page.payload["charts"]["equity"]["layout"]["shapes"]) == 1


def test_a_run_without_trades_says_so():
    words = Page(render(sample_run(n_trades=0, n_bars=1_200))).words
    assert "No trades." in words
    assert "NaN" not in words
    assert "None" not in words


def test_a_run_without_a_single_session_renders(run):
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

    (bars,) = chart_payload(run)["charts"]["distribution"]["data"]

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

    def show(run, *, width=1280, scheme="light", html=None):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        (tmp_path / "report.html").write_text(html or render(run), "utf-8")
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


def asked_of(driver):
    """List what the pages opened since the last call asked for."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [
        e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"
    ]


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_draws_its_charts_without_a_network_or_a_console_message(
    run, opened, width, scheme
):
    driver = opened(run, width=width, scheme=scheme)

    assert console_messages(driver) == []
    urls = asked_of(driver)
    assert urls
    assert not {url.split(":")[0] for url in urls} & {"http", "https", "ws", "wss"}
    assert charts_drawn(driver) == dict.fromkeys(ALWAYS | OF_TRADES, True)
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
    drawn = set(charts_drawn(driver).items())
    assert drawn >= {(name, True) for name in ("equity", "price", "forward")}
    assert ({("costs", True), ("mae", True)} <= drawn) == (n_inside < 60)
    shade = "return document.querySelectorAll('#equity .shapelayer path').length"
    assert driver.execute_script(shade) == 2
    sizes = driver.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert sizes[0] <= sizes[1], "the page scrolls sideways"


CONTRAST = """
const lit = (text) => {
  const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (e) => {
  const own = getComputedStyle(e).backgroundColor;
  return own !== 'rgba(0, 0, 0, 0)' && !own.includes('/') && !own.startsWith('rgba') ? own : behind(e.parentElement);
};
return ['h1', '.hint', '.facts', '.stat dt', '.stat dd', '.note p', 'td', 'th', '.win', '.loss', '#theme', 'pre']
  .map((name) => [name, document.querySelector(name)]).filter(([, e]) => e).map(([name, e]) => {
    const [a, b] = [lit(getComputedStyle(e).color), lit(behind(e))].sort((x, y) => y - x);
    return [name, (a + 0.05) / (b + 0.05)];
  });
"""


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_and_the_switch_goes_over_to_the_other_theme(run, opened, scheme):
    driver = opened(run, scheme=scheme)
    other = "dark" if scheme == "light" else "light"
    colour = "return document.getElementById('equity').data[0].line.color"
    before = driver.execute_script(colour)
    for shown in (scheme, other):
        assert driver.execute_script("return document.documentElement.dataset.theme") == shown
        faint = [(name, ratio) for name, ratio in driver.execute_script(CONTRAST) if ratio < 4.5]
        assert faint == []
        driver.find_element("id", "theme").click()
    driver.find_element("id", "theme").click()
    wait_until(driver, f"{colour} !== '{before}'")
    assert console_messages(driver) == []


def wait_until(driver, script):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 15).until(lambda d: d.execute_script(script))


@needs_browser
def test_charts_over_time_zoom_together_and_back(run, opened):
    driver = opened(run)
    dates = run.equity["session_date"]
    from_to = [str(dates[0] + (dates[-1] - dates[0]) * part) for part in (0.75, 0.85)]
    driver.execute_script(
        "Plotly.relayout('equity', {'xaxis.range[0]': arguments[0], 'xaxis.range[1]': arguments[1]})",
        *from_to,
    )
    spans = (
        "const day = (x) => new Date(x).toISOString().slice(0, 10);"
        "return ['equity', 'rolling', 'price'].map((id) => document.getElementById(id).layout.xaxis.range?.map(day))"
    )
    wait_until(
        driver,
        f"const f = () => {{ {spans} }}; return f().every((r) => r && r[0] === '{from_to[0]}')",
    )
    assert driver.execute_script(spans) == [from_to] * 3
    # Another symbol shows the same span; then all show all again.
    driver.find_element("css selector", '#symbols [data-value="NQ"]').click()
    assert driver.execute_script(spans)[2] == from_to
    driver.find_element("css selector", '#spans [data-value="all"]').click()
    wait_until(
        driver,
        f"const f = () => {{ {spans} }}; return f().every((r) => !r || r[0] !== '{from_to[0]}')",
    )
    assert console_messages(driver) == []


@needs_browser
@pytest.mark.parametrize(("made", "width"), [(crowded, 390), (one_trade, 1280), (vetoing, 390)])
def test_unusual_runs_draw_every_chart(opened, made, width):
    run = made()
    driver = opened(run, width=width)
    assert console_messages(driver) == []
    drawn = charts_drawn(driver)
    assert drawn
    assert set(drawn.values()) == {True}
    assert drawn.keys() >= OF_TRADES
    marks = driver.execute_script(
        "return [...document.querySelectorAll('.chart')].map((c) => "
        "[c.id, c.querySelectorAll('.trace path, .point path, .scatterlayer path, .boxlayer path').length])"
    )
    assert [name for name, n in marks if not n] == []
    sizes = driver.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert sizes[0] <= sizes[1], "the page scrolls sideways"


@needs_browser
def test_compared_runs_are_drawn_and_a_hostile_name_runs_no_script(run, opened):
    html = render_comparison(
        {"first": run, HOSTILE: trained_run(40), "none": sample_run(n_trades=0)}
    )
    assert HOSTILE not in html
    driver = opened(None, width=390, scheme="dark", html=html)
    assert console_messages(driver) == []
    assert charts_drawn(driver) == {"compared": True}
    lines = "return document.querySelectorAll('#compared path.js-line').length"
    assert driver.execute_script(lines) >= 7  # a curve and a drawdown each, one curve in two parts
    sizes = driver.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert sizes[0] <= sizes[1], "the page scrolls sideways"


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_sweep_is_drawn_as_cells_with_its_marks(opened, scheme):
    grid = Grid((Axis("strategy.entry.ibs.1", (0.1, 0.2)), Axis("strategy.exits.bars", (4, None))))
    rows = [
        {"candidate": i, "strategy.entry.ibs.1": ibs, "strategy.exits.bars": bars, "trades": 9}
        | {"net_usd": 1.0, "max_drawdown_usd": 1.0, "profit_factor": None}
        | {"sharpe": -0.5 + i / 2, "plateau": (-0.5, 0.0, 0.25, None)[i]}
        for i, (ibs, bars) in enumerate([(0.1, 4), (0.1, None), (0.2, 4), (0.2, None)])
    ]
    found = Found(grid, pl.DataFrame(rows), rows[2], rows[3], {}, 4, None, ("a note",), True)
    driver = opened(None, width=390, scheme=scheme, html=sweep_page(found))
    assert console_messages(driver) == []
    assert charts_drawn(driver) == {"sharpe": True, "plateau": True}
    cells = "return document.querySelectorAll('#sharpe .hm image').length"
    assert driver.execute_script(cells) == 1
    texts = (
        "return [...document.querySelectorAll('#sharpe .heatmap-label')].map((e) => e.textContent)"
    )
    assert sorted(driver.execute_script(texts)) == ["-0.5", "0.0", "0.5", "1.0"]
    marks = "return document.querySelectorAll('#sharpe .shapelayer path').length"
    assert driver.execute_script(marks) == 2
    sizes = driver.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert sizes[0] <= sizes[1], "the page scrolls sideways"


@needs_browser
def test_plotly_knows_every_attribute_of_every_chart(run, opened):
    from plotly.graph_objects import Figure

    driver = opened(run)
    figures = driver.execute_script(
        "const plain = (k, v) => (ArrayBuffer.isView(v) ? Array.from(v) : v);"
        "return [...document.querySelectorAll('.chart')]"
        ".map((c) => JSON.stringify({ data: c.data, layout: c.layout }, plain))"
    )
    assert len(figures) == len(ALWAYS | OF_TRADES)
    for figure in figures:
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
def test_thousands_of_trades_are_thinned_from_afar_and_whole_close_up(opened):
    run = sample_run(n_trades=4_500, n_bars=20_000, symbols=("ES",))
    driver = opened(run)
    told = "return document.getElementById('merged').textContent"
    exits = "return document.getElementById('price').data.at(-1).x"
    assert driver.execute_script(told) == "At this zoom 1 in 3 of 4,500 trades is drawn."
    assert len(driver.execute_script(exits)) == 1_500
    last = run.bars["ES"]["end"][-1]
    first = last - timedelta(days=10)
    driver.execute_script(
        "Plotly.relayout('price', {'xaxis.range[0]': arguments[0], 'xaxis.range[1]': arguments[1]})",
        first.timestamp() * 1000,
        last.timestamp() * 1000,
    )
    wait_until(driver, f"{told} === ''")
    own = run.trades.filter(pl.col("exit_time") >= first)
    found = sorted(driver.execute_script(exits))
    assert found == sorted(own["exit_time"].dt.epoch("ms").to_list())


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
    expected = {"equity", "forward"} | ({"price"} if with_bars else set())
    assert charts_drawn(driver) == dict.fromkeys(expected, True)


@needs_browser
def test_a_hostile_symbol_runs_no_script(run, opened):
    hostile = replace(run, bars={HOSTILE: run.bars["ES"]})
    driver = opened(hostile)  # an alert() would fail every later call
    assert console_messages(driver) == []
    assert charts_drawn(driver)["price"]
