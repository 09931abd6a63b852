(() => {
  "use strict";
  const payload = JSON.parse(document.getElementById("payload").textContent);
  const coarse = matchMedia("(pointer: coarse)").matches;
  const config = { displayModeBar: false, responsive: true };
  const CANDLES_MAX = 260, LABELLED_TRADES_MAX = 120, DRAWN_TRADES_MAX = 2000, MINUTE_MS = 60000, DAY = 1440;

  const VIEWS = { i4: Int32Array, f4: Float32Array, f8: Float64Array };
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const unpacked = ({ dtype, bdata }) => new VIEWS[dtype](bytes(bdata).buffer);

  // Colours are CSS variables; "--name" in a figure stands for the value in the present scheme.
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const coloured = (value) => {
    if (typeof value === "string") return value.startsWith("--") ? css(value) : value;
    if (Array.isArray(value)) return value.map(coloured);
    if (value === null || typeof value !== "object" || ArrayBuffer.isView(value)) return value;
    if (value.bdata !== undefined) return unpacked(value);
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, coloured(v)]));
  };
  const axis = (own, shown) => ({
    gridcolor: "--rule", linecolor: "--rule", zeroline: false, showline: false, automargin: true,
    ticks: "outside", ticklen: 5, tickcolor: "rgba(0,0,0,0)",
    tickfont: { color: "--muted" }, tickangle: 0, zerolinecolor: "--faint", fixedrange: coarse || !shown, ...own,
  });
  const layout = (own) => coloured({
    margin: { l: 8, r: 8, t: 8, b: 8 }, showlegend: false,
    dragmode: coarse ? false : "zoom",
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: "--ink" },
    hoverlabel: { bgcolor: "--surface", bordercolor: "--rule", font: { color: "--ink" }, align: "left" },
    ...own,
    xaxis: axis({ showgrid: false, ...own.xaxis }, true), yaxis: axis(own.yaxis, false),
    ...(own.yaxis2 && { yaxis2: axis(own.yaxis2, false) }),
  });
  const draw = (id, figure) => {
    const doubleClick = id === "price" ? false : "reset"; // the price chart resets itself
    return figure && Plotly.react(id, coloured(figure.data), layout(figure.layout), { ...config, doubleClick });
  };

  // Bars are compressed steps: minutes since the bar before, then ticks of close, open, high, low.
  const unpackedBars = async ({ n, width, first_time, first_close, step, deflated }) => {
    const stream = new Blob([bytes(deflated)]).stream().pipeThrough(new DecompressionStream("deflate"));
    const buffer = await new Response(stream).arrayBuffer();
    const minutes = new Int32Array(buffer, 0, n), ticks = new Int16Array(buffer, 4 * n, 4 * n);
    const own = { width, time: new Int32Array(n) };
    for (const key of ["close", "open", "high", "low"]) own[key] = new Float64Array(n);
    const price = (tick) => Math.round((first_close + step * tick) * 1e6) / 1e6;
    for (let i = 0, time = first_time, close = 0; i < n; i++) {
      own.time[i] = time += minutes[i];
      own.close[i] = price(close += ticks[i]);
      own.open[i] = price(close + ticks[n + i]);
      own.high[i] = price(close + ticks[2 * n + i]);
      own.low[i] = price(close + ticks[3 * n + i]);
    }
    return own;
  };
  const usd = (x) => (x < 0 ? "\u2212$" : "$") + Math.abs(x).toLocaleString("en-US", { maximumFractionDigits: 0 });
  const decoded = {};
  const prices = async (name) => {
    if (decoded[name]) return decoded[name];
    const { bars, ...own } = payload.prices[name];
    for (const key of Object.keys(own)) if (own[key].bdata !== undefined) own[key] = unpacked(own[key]);
    return (decoded[name] = { ...own, ...(await unpackedBars(bars)) });
  };
  const at = (minute) => minute * MINUTE_MS;
  const below = (sorted, x) => { // how many values are < x
    let a = 0, b = sorted.length;
    while (a < b) { const m = (a + b) >> 1; if (sorted[m] < x) a = m + 1; else b = m; }
    return a;
  };

  const LINKED = ["equity", "rolling"].filter((id) => payload.charts[id]);
  let symbol = Object.keys(payload.prices)[0], view = null; // view: [from, to] in minutes; null is all
  const spelt = (price) => Number(price.toPrecision(7)).toLocaleString("en-US", { maximumFractionDigits: 7 });
  const links = (p, won, shown) => {
    const x = [], y = [];
    shown.forEach((i) => {
      if (p.net[i] > 0 !== won) return;
      x.push(at(p.entry_time[i]), at(p.exit_time[i]), null);
      y.push(p.entry_price[i], p.exit_price[i], null);
    });
    return { type: "scatter", mode: "lines", x, y, hoverinfo: "skip", line: { width: 1.4, color: won ? "--win" : "--loss" } };
  };
  const dots = (p, side, marker, shown) => ({
    type: "scatter", mode: "markers", name: side,
    x: shown.map((i) => at(p[side + "_time"][i])), y: shown.map((i) => p[side + "_price"][i]),
    marker: { color: shown.map((i) => (p.net[i] > 0 ? "--win" : "--loss")), ...marker },
    text: shown.map((i) => side === "entry"
      ? `Entry ${spelt(p.entry_price[i])}<br>net ${usd(p.net[i])}`
      : `Exit ${spelt(p.exit_price[i])}, ${payload.reasons[p.reason[i]] ?? "?"}<br>${p.held[i]} bars, net ${usd(p.net[i])}`),
    hovertemplate: "%{text}<br>%{x|%a %d %b %Y %H:%M} UTC<extra></extra>",
  });
  // Nights and weekends take no room in a close-up.
  const closed = (p, a, b) => {
    const gaps = [];
    for (let i = a + 1; i < b; i++) {
      const from = p.time[i - 1] + 1, to = p.time[i] - p.width;
      if (to - from > 3 * p.width) gaps.push({ values: [at(from)], dvalue: at(to - from) });
    }
    return gaps;
  };
  const priceFigure = (p) => {
    const n = p.time.length;
    const whole = [p.time[0] - p.width, p.time[n - 1] + p.width];
    // Another symbol's bars may lie elsewhere.
    const seen = view && view[0] < whole[1] && view[1] > whole[0] ? view : whole;
    const a = Math.max(0, below(p.time, seen[0]) - 1), b = Math.min(n, below(p.time, seen[1]) + 1);
    const close_up = b - a <= CANDLES_MAX;
    const inView = [...p.net.keys()].filter((i) => p.exit_time[i] >= seen[0] && p.entry_time[i] <= seen[1]);
    const labelled = inView.length <= LABELLED_TRADES_MAX;
    // Where thousands lie over each other, a browser would take half a minute to draw what nobody can tell apart.
    const oneIn = Math.ceil(inView.length / DRAWN_TRADES_MAX), shown = inView.filter((_, k) => k % oneIn === 0);
    let low = Infinity, high = -Infinity;
    for (let i = a; i < b; i++) { low = Math.min(low, p.low[i]); high = Math.max(high, p.high[i]); }
    const pad = 0.04 * (high - low) || 1;
    // A close belongs to the end of its bar, a candle stands over the middle.
    const times = Array.from(p.time.subarray(close_up ? a : 0, close_up ? b : n), (t) => at(close_up ? t - p.width / 2 : t));
    const bars = close_up
      ? { type: "candlestick", x: times, open: p.open.slice(a, b), high: p.high.slice(a, b), low: p.low.slice(a, b), close: p.close.slice(a, b),
          increasing: { line: { color: "--price", width: 1 }, fillcolor: "--surface" },
          decreasing: { line: { color: "--price", width: 1 }, fillcolor: "--price" }, hoverinfo: "x+y" }
      : { type: "scatter", mode: "lines", x: times, y: p.close, line: { color: "--price", width: 1 }, hoverinfo: "skip" };
    const data = [bars, links(p, true, shown), links(p, false, shown)];
    if (labelled) data.push(dots(p, "entry", { symbol: "triangle-up", size: 10, line: { color: "--surface", width: 1 } }, shown));
    data.push(dots(p, "exit", { symbol: "circle", size: labelled ? 8 : 4, line: { color: "--surface", width: labelled ? 1 : 0 } }, shown));
    const told = [];
    if (p.merged > 1) told.push(`Each point merges ${p.merged} signal bars; entries and exits are exact.`);
    if (oneIn > 1) told.push(`At this zoom 1 in ${oneIn} of ${inView.length.toLocaleString("en-US")} trades is drawn.`);
    return { told: told.join(" "), data, layout: {
      hovermode: "closest",
      xaxis: { type: "date", range: seen.map(at), rangeslider: { visible: false }, rangebreaks: close_up ? closed(p, a, b) : [] },
      yaxis: { range: [low - pad, high + pad], tickformat: "," },
    } };
  };
  const drawPrice = async () => {
    if (!symbol) return;
    const chosen = symbol, p = await prices(chosen);
    if (chosen !== symbol) return; // another symbol was chosen meanwhile
    const figure = priceFigure(p);
    document.getElementById("merged").textContent = figure.told;
    await draw("price", figure);
  };
  const press = (group, chosen) => {
    for (const b of document.querySelectorAll(`#${group} button`)) b.setAttribute("aria-pressed", String(b === chosen));
  };
  const choose = (group, action) => {
    for (const button of document.querySelectorAll(`#${group} button`)) {
      button.addEventListener("click", () => { press(group, button); action(button.dataset.value); });
    }
  };

  // Charts over time show the same span; the values in it fill their height.
  const heights = (id) => {
    const { data, layout: own } = document.getElementById(id), asked = payload.charts[id].layout, found = {};
    for (const axis of ["yaxis", "yaxis2"]) {
      if (!own[axis]) continue;
      let low = Infinity, high = -Infinity;
      for (const trace of data) {
        if ((trace.yaxis ?? "y") !== axis.replace("axis", "")) continue;
        for (let i = 0; view && i < trace.x.length; i++) {
          if (trace.x[i] < at(view[0]) || trace.x[i] > at(view[1]) || Number.isNaN(trace.y[i])) continue;
          low = Math.min(low, trace.y[i]); high = Math.max(high, trace.y[i]);
        }
      }
      const room = 0.06 * (high - low) || Math.abs(high) * 0.01 || 1;
      const top = axis === "yaxis2" ? 0 : high + room; // drawdowns hang from 0
      found[`${axis}.range`] = high >= low ? [low - room, top] : asked[axis].range;
    }
    return found;
  };
  const show = async (span, from) => {
    view = span;
    const own = (id) => (id === from ? {} : span ? { "xaxis.range": span.map(at) } : { "xaxis.autorange": true });
    await Promise.all([
      drawPrice(), ...LINKED.map((id) => Plotly.relayout(id, { ...own(id), ...heights(id) })),
    ]);
  };
  const zoom = (days) => {
    const p = decoded[symbol], end = p.time[p.time.length - 1];
    return show(days === "all" ? null : [Math.max(p.time[0] - p.width, end - Number(days) * DAY), end + p.width]);
  };
  const minute = (x) => (typeof x === "number" ? x : Date.parse(x.replace(" ", "T") + (x.length > 10 ? "Z" : ""))) / MINUTE_MS;
  const listen = (id) => {
    document.getElementById(id).on("plotly_relayout", (change) => {
      // What `show` asks for says "xaxis.range"; what a reader drags says both ends.
      const dragged = change["xaxis.range[0]"] !== undefined;
      const reset = change["xaxis.autorange"] && change["yaxis.range"] === undefined && view !== null;
      if (!dragged && !reset) return;
      press("spans", null);
      show(dragged ? [minute(change["xaxis.range[0]"]), minute(change["xaxis.range[1]"])] : null, id);
    });
  };
  const variant = {};
  const drawVariant = (id) => draw(id, payload.variants[id][variant[id]]);

  const drawAll = async () => {
    await Promise.all([
      ...Object.entries(payload.charts).map(([id, figure]) => draw(id, figure)),
      ...Object.keys(payload.variants).map(drawVariant),
    ]);
    await (view ? show(view) : drawPrice());
  };
  for (const id of Object.keys(payload.variants)) {
    variant[id] = Object.keys(payload.variants[id])[0];
    choose(`${id}-tabs`, (value) => { variant[id] = value; drawVariant(id); });
  }
  drawAll().then(() => {
    LINKED.forEach(listen);
    if (symbol) {
      choose("symbols", (value) => { symbol = value; drawPrice(); });
      choose("spans", zoom);
      listen("price");
      document.getElementById("price").on("plotly_doubleclick", () => { zoom("all"); return false; });
    }
    document.documentElement.addEventListener("theme", drawAll);
    document.documentElement.dataset.drawn = "yes";
  });
})();
