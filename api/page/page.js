// Live figures, once a second, from the API that serves this page.
const SVG = "http://www.w3.org/2000/svg";
const HISTORY = 120;
const $ = (id) => document.getElementById(id);
const lines = { "rate-line": [], "p95-line": [], "token-line": [], "cost-line": [], "error-line": [] };
let span = "5m";
let turn = 0;

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const number = (x, digits = 1) => (x >= 1000 ? short.format(x) : x.toFixed(digits));
const percent = (x) => (x === null ? "–" : (100 * x).toFixed(x > 0 && x < 0.001 ? 2 : 1));
const duration = (ms) => (ms === null ? "–" : ms >= 10_000 ? `${(ms / 1000).toFixed(1)} s` : ms >= 1000 ? `${(ms / 1000).toFixed(2)} s` : `${ms.toFixed(0)} ms`);
const dollars = (usd) => (usd === null ? "–" : usd >= 100 ? whole.format(Math.round(usd)) : usd.toFixed(usd < 1 ? 4 : 2));
const clock = (iso) => new Date(iso).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(8000) });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.detail ?? `the API answered ${answer.status}`);
  return body;
}

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.append(text);
  return made;
}

function drawLine(id, value) {
  const values = lines[id];
  values.push(value);
  if (values.length > HISTORY) values.shift();
  const svg = $(id);
  svg.setAttribute("viewBox", "0 0 100 40");
  svg.setAttribute("preserveAspectRatio", "none");
  const known = values.filter((v) => v !== null);
  const most = Math.max(...known, 0) * 1.15 || 1;
  const step = 100 / (HISTORY - 1);
  const points = values
    .map((v, i) => (v === null ? null : [100 - (values.length - 1 - i) * step, 39 - (v / most) * 36]))
    .filter(Boolean);
  if (points.length < 2) return svg.replaceChildren();
  const text = points.map((p) => p.map((c) => c.toFixed(2)).join(",")).join(" ");
  svg.replaceChildren(
    element("path", { d: `M${points[0][0]},40 L${text} L100,40 Z` }),
    element("polyline", { points: text }),
  );
}

function showTotal(now) {
  const g = now.groups[0];
  const latency = g.latency_ms.total;
  $("rate").textContent = number(g.request_rate);
  $("requests").textContent = `${whole.format(g.requests)} in all, ${percent(g.cache_hit_rate)} % from cache`;
  $("p50").textContent = duration(latency.p50);
  $("latency").textContent = `p95 ${duration(latency.p95)}, p99 ${duration(latency.p99)}`;
  $("tokens").textContent = number(g.tokens_per_second, 0);
  $("token-parts").textContent = `${short.format(g.tokens.prompt)} prompt, ${short.format(g.tokens.completion)} completion`;
  $("cost").textContent = dollars(g.cost_usd);
  $("unpriced").textContent = g.unpriced ? `${whole.format(g.unpriced)} requests without a known price` : "all requests priced";
  $("errors").textContent = percent(g.error_rate);
  $("errors").className = g.error_rate > 0.05 ? "bad" : "";
  const types = Object.entries(now.errors_by_type.counts).slice(0, 2).map(([type, n]) => `${short.format(n)} ${type}`);
  $("error-types").textContent = types.join(", ") || "none";
  drawLine("rate-line", g.request_rate);
  drawLine("p95-line", latency.p95);
  drawLine("token-line", g.tokens_per_second);
  drawLine("cost-line", g.cost_usd === null ? null : g.cost_usd / now.window.seconds);
  drawLine("error-line", g.error_rate);
}

function showTable(id, now) {
  const head = ["", "req/s", "p50", "p95", "p99", "tokens/s", "USD", "errors"];
  const rows = now.groups.map((g) => [
    Object.values(g.key).join(" / "),
    number(g.request_rate),
    ...["p50", "p95", "p99"].map((p) => duration(g.latency_ms.total[p])),
    number(g.tokens_per_second, 0),
    dollars(g.cost_usd),
    `${percent(g.error_rate)} %`,
  ]);
  const table = document.createElement("table");
  const header = table.createTHead().insertRow();
  for (const title of head) header.append(Object.assign(document.createElement("th"), { textContent: title, scope: "col" }));
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const text of row) line.insertCell().textContent = text;
    line.cells[0].title = row[0];
  }
  const rest = now.left_out.groups
    ? `and ${whole.format(now.left_out.groups)} more, with ${whole.format(now.left_out.requests)} requests`
    : rows.length ? "" : "No requests in this window.";
  if (rest) {
    const cell = body.insertRow().insertCell();
    Object.assign(cell, { textContent: rest, className: "none", colSpan: head.length });
  }
  $(id).replaceChildren(...table.childNodes);
}

function showHour(requests, errors) {
  const svg = $("hour");
  const points = requests.series[0]?.points ?? [];
  const failed = new Map((errors.series[0]?.points ?? []).map((p) => [p.start, p.value]));
  const most = Math.max(...points.map((p) => p.value ?? 0), 1);
  svg.setAttribute("viewBox", `0 0 ${Math.max(points.length, 1) * 10} 100`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.replaceChildren(
    ...points.flatMap((p, i) => {
      if (p.value === null) return [element("rect", { class: "gap", x: i * 10 + 1, width: 8, y: 98, height: 2 })];
      const height = Math.max(1.5, (p.value / most) * 96);
      const bad = ((failed.get(p.start) ?? 0) / most) * 96;
      const bar = element("rect", { x: i * 10 + 1, width: 8, y: 100 - height, height, rx: 1 });
      bar.append(element("title", {}, `${clock(p.start)}: ${whole.format(p.value)} requests, ${failed.get(p.start) ?? 0} errors`));
      return [bar, element("rect", { class: "errors", x: i * 10 + 1, width: 8, y: 100 - bad, height: bad })];
    }),
  );
  $("hour-note").textContent = points.length
    ? `up to ${whole.format(most)} a minute; errors in red`
    : "No history yet: it begins when the first requests have been written.";
}

function showStatus(kind, text) {
  $("status").className = kind;
  $("status").lastChild.textContent = text;
}

function showCoverage(now) {
  const { partitions, watermark, slowest_partition, closed_through, missing } = now.coverage;
  const silent = now.age_ms === null;
  const behind = watermark ? new Date(now.window.end) - new Date(watermark) : 0;
  if (silent) showStatus("warn", "waiting for the first requests");
  else if (now.age_ms > 30_000) showStatus("warn", `no news for ${duration(now.age_ms)}`);
  else if (behind > 30_000) showStatus("warn", `${duration(behind)} behind the events`);
  else showStatus("good", `live, ${duration(now.age_ms)} old`);
  const parts = [`${clock(now.window.start)} to ${clock(now.window.end)} in panes of ${now.window.pane}`];
  parts.push(`${partitions.reporting} of ${partitions.total ?? "?"} partitions report`);
  if (closed_through) parts.push(`closed through ${clock(closed_through)}`);
  if (watermark && slowest_partition !== null) parts.push(`slowest is partition ${slowest_partition}`);
  const notes = missing.filter((reason) => !reason.endsWith("still open"));
  $("coverage").textContent = [...parts, ...notes].join(" · ");
}

async function refresh() {
  try {
    const asked = span;
    const [total, service, model] = await Promise.all([
      ask(`/api/metrics/current?window=${asked}`),
      ask(`/api/metrics/current?window=${asked}&grouping=service&limit=8`),
      ask(`/api/metrics/current?window=${asked}&grouping=model&limit=8`),
    ]);
    if (asked !== span) return;
    showTotal(total);
    showTable("by-service", service);
    showTable("by-model", model);
    showCoverage(total);
    document.querySelector("main").classList.remove("stale");
  } catch (error) {
    showStatus("bad", error.name === "TypeError" ? "the API does not answer" : error.message);
    document.querySelector("main").classList.add("stale");
  }
}

async function refreshHour() {
  try {
    const [requests, errors] = await Promise.all([
      ask("/api/metrics/historical?type=requests&include=live"),
      ask("/api/metrics/historical?type=errors&include=live"),
    ]);
    showHour(requests, errors);
  } catch (error) {
    $("hour-note").textContent = error.name === "TypeError" ? "" : error.message;
  }
}

async function run() {
  if (!document.hidden) {
    if (turn++ % 15 === 0) refreshHour();
    await refresh();
  }
  setTimeout(run, 1000);
}

for (const button of document.querySelectorAll("[data-window]")) {
  button.addEventListener("click", () => {
    span = button.dataset.window;
    for (const other of document.querySelectorAll("[data-window]")) other.setAttribute("aria-pressed", other === button);
    for (const values of Object.values(lines)) values.length = 0;
    refresh();
  });
}
run();
