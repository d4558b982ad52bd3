// Asks the edge every few seconds how it stands, and shows it. The token is in this tab's memory and nowhere else; all
// text goes into the page as text.
"use strict";

const EVERY_MS = 5000;
const PATIENCE_MS = 10000;
const KEPT_AS = "vms-edge-token";

const byId = (id) => document.getElementById(id);

// ---- words and numbers ----------------------------------------------------------------------------------------------

const NOTHING = "–";
const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

const several = (count, what) => `${whole.format(count)} ${what}${count === 1 ? "" : "s"}`;
const percent = (ratio) => (ratio == null ? NOTHING : `${(ratio * 100).toFixed(ratio > 0.9995 || ratio === 0 ? 0 : 1)} %`);
const rate = (number) => (number == null ? NOTHING : number >= 100 ? whole.format(Math.round(number)) : short.format(number));
const milliseconds = (ms) =>
  ms == null ? NOTHING : ms >= 1000 ? `${(ms / 1000).toFixed(2)} s` : ms >= 100 ? `${ms.toFixed(0)} ms` : `${ms.toFixed(1)} ms`;

function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; number >= 1024 && unit < units.length - 1; unit++) number /= 1024;
  return [short.format(number), units[unit]];
}

function duration(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([length]) => seconds >= length);
  if (first < 0) return "0 s";
  const told = parts.slice(first, first + 2).map(([length, unit], place) => {
    const count = Math.floor((place ? seconds % parts[first][0] : seconds) / length);
    return count || !place ? `${count} ${unit}` : "";
  });
  return told.join(" ").trim();
}

const ago = (moment) => (moment.seconds_ago < 1 ? "now" : `${duration(moment.seconds_ago)} ago`);

// ---- the page's own building blocks ---------------------------------------------------------------------------------

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function say(id, text, unit) {
  const place = byId(id);
  const children = unit ? [text, element("small", null, unit)] : [text];
  if (place.textContent !== children.map((child) => child.textContent ?? child).join("")) place.replaceChildren(...children);
}

function list(id, items, nothing) {
  byId(id).replaceChildren(...(items.length ? items : [element("li", { class: "quiet" }, nothing)]));
}

function time(moment) {
  const at = new Date(moment.at);
  return element("time", { datetime: moment.at, title: at.toLocaleString() }, ago(moment));
}

function state(word, text) {
  byId("state").dataset.state = word;
  say("state", text);
}

// ---- charts ---------------------------------------------------------------------------------------------------------

const CHARTS = [
  {
    name: "Answered from memory",
    format: percent,
    axis: (value) => `${Math.round(value * 100)} %`,
    // A little more than all, so that a line at the top is whole.
    range: () => [0, 1.02],
    series: [["requests", "hit_ratio_requests"], ["items", "hit_ratio_items"]],
  },
  {
    name: "Requests per second",
    format: rate,
    axis: rate,
    series: [["all", "requests_per_second"], ["passed through", "passed_through_per_second"]],
  },
  {
    name: "Latency of the VMS",
    format: milliseconds,
    axis: (value) => (value >= 1000 ? `${short.format(value / 1000)} s` : `${short.format(value)} ms`),
    series: [["p50", "latency_p50_ms"], ["p99", "latency_p99_ms"]],
  },
  {
    name: "What the VMS is spared",
    format: rate,
    axis: rate,
    between: true,
    series: [["batches/s", "batches_per_second"], ["fetches/s", "fetches_per_second"]],
  },
];

const together = uPlot.sync("time");

class Chart {
  constructor(of) {
    this.of = of;
    this.values = of.series.map(() => element("b", null, NOTHING));
    const legend = of.series.map(([name], place) => element("li", null, element("i"), name, this.values[place]));
    this.canvas = element("div", { class: "canvas", role: "img" });
    this.empty = element("p", { class: "empty quiet" }, "The first values come after ten seconds.");
    this.figure = element(
      "figure",
      null,
      element("figcaption", null, element("h3", null, of.name), element("ul", { class: "legend" }, ...legend)),
      this.canvas,
      this.empty,
    );
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.canvas);
  }

  size() {
    return { width: Math.max(this.canvas.clientWidth, 1), height: Math.max(this.canvas.clientHeight, 1) };
  }

  draw(history, span) {
    this.span = span;
    this.data = [history.time, ...this.of.series.map(([, column]) => history[column])];
    this.empty.hidden = this.data.slice(1).some((values) => values.some((value) => value != null));
    if (this.plot) this.plot.setData(this.data);
    else this.plot = new uPlot(this.options(), this.data, this.canvas);
    this.tell();
  }

  // Colours are drawn, not styled: another scheme needs another drawing.
  repaint() {
    this.plot?.destroy();
    this.plot = null;
    if (this.data) {
      this.plot = new uPlot(this.options(), this.data, this.canvas);
    }
  }

  options() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const [first, second] = [colour("--first"), colour("--second")];
    const axis = {
      stroke: colour("--quiet"),
      font: "12px system-ui, sans-serif",
      grid: { stroke: colour("--grid"), width: 1 },
      ticks: { show: false },
    };
    // No line leads to a value without neighbours: it is a point.
    const isAlone = (values, at) => values[at] != null && values[at - 1] == null && values[at + 1] == null;
    const alone = (plot, place) => plot.data[place].map((_, at) => at).filter((at) => isAlone(plot.data[place], at));
    const points = { show: false, filter: alone, size: 6, width: 0 };
    const fill = this.of.between ? undefined : `${first}1c`;
    return {
      ...this.size(),
      padding: [8, 8, 0, 0],
      cursor: {
        sync: { key: together.key, setSeries: false },
        drag: { x: false, y: false },
        y: false,
        points: { size: 7 },
      },
      legend: { show: false },
      scales: {
        x: { range: () => this.span },
        y: { range: this.of.range ?? ((_, __, most) => [0, most > 0 ? most * 1.12 : 1]) },
      },
      axes: [
        { ...axis, size: 28, gap: 6, space: 64, values: "{HH}:{mm}", incrs: [60, 120, 300, 600, 900, 1200], },
        { ...axis, size: 52, gap: 6, space: 36, values: (_, values) => values.map(this.of.axis) },
      ],
      series: [
        {},
        { stroke: first, width: 2, fill, points: { ...points, fill: first } },
        { stroke: second, width: 2, dash: [6, 4], points: { ...points, fill: second } },
      ],
      bands: this.of.between ? [{ series: [1, 2], fill: `${first}24` }] : [],
      hooks: { setCursor: [() => this.tell()] },
    };
  }

  // The values under the cursor, or the latest ones.
  tell() {
    const under = this.plot?.cursor.idx;
    const told = this.data.slice(1).map((values) => this.of.format(under == null ? values.findLast((v) => v != null) : values[under]));
    told.forEach((text, place) => (this.values[place].textContent = text));
    say("at", under == null ? "" : clock.format(new Date(this.data[0][under] * 1000)));
    if (under != null) return;
    const names = this.of.series.map(([name], place) => `${name} ${told[place]}`);
    this.canvas.setAttribute("aria-label", `${this.of.name}, latest: ${names.join(", ")}`);
  }
}

const charts = CHARTS.map((of) => new Chart(of));
byId("charts").append(...charts.map((chart) => chart.figure));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((chart) => chart.repaint()));

// ---- what is shown --------------------------------------------------------------------------------------------------

const STATES = {
  closed: ["good", "In use"],
  half_open: ["warn", "Being probed"],
  open: ["bad", "Left alone"],
  unhealthy: ["bad", "Passed over"],
};

const SCOPES = { user: "All of one user", item: "One item, for everyone", all: "Everything" };

function show(status, history, minutes) {
  const { last_1m, last_5m, since_start } = status.traffic;
  say("version", status.version);
  say("hit-requests", percent(last_5m.hit_ratio.requests));
  say("hit-requests-more", `in 5 min · ${percent(since_start.hit_ratio.requests)} overall`);
  say("hit-items", percent(last_5m.hit_ratio.items));
  say("hit-items-more", `in 5 min · ${percent(since_start.hit_ratio.items)} overall`);
  say("rate", rate(last_1m.seconds ? last_1m.requests / last_1m.seconds : null), "/s");
  say("rate-more", `in 1 min · ${whole.format(status.requests_in_flight)} in flight`);
  say("saved", whole.format(since_start.vms_requests_saved));
  const spared = since_start.fetches + since_start.vms_requests_saved;
  const share = spared > 0 ? percent(since_start.vms_requests_saved / spared) : NOTHING;
  say("saved-more", `overall · ${share} of batches`);
  showCache(status.cache);
  showServers(status.servers);
  showBypasses(status.bypasses);
  showMarks(status.marks);
  showReloads(status.reloads);
  say("configuration", status.configuration);
  const dropped = status.log_lines_dropped;
  say("since", `Up ${duration(status.started.seconds_ago)}${dropped ? ` · ${whole.format(dropped)} log lines dropped` : ""} · shown as of ${clock.format(new Date())}`);
  const now = Date.now() / 1000;
  charts.forEach((chart) => chart.draw(history, [now - minutes * 60, now]));
  if (status.ready) state("good", `Serving, up ${duration(status.started.seconds_ago)}`);
  else state("warn", "Shutting down");
}

function showCache(cache) {
  const [number, unit] = bytes(cache.bytes);
  say("cache", number, `${unit} of ${bytes(cache.max_bytes).join(" ")}`);
  byId("cache-meter").value = cache.bytes / cache.max_bytes;
  say("cache-more", `${several(cache.items, "item")} of ${several(cache.users, "requester")}`);
}

function showServers(servers) {
  const cell = (name, content, className) => element("td", { "data-name": name, class: className ?? "" }, content);
  const rows = servers.map((server) => {
    const [kind, word] = STATES[server.state] ?? ["warn", server.state];
    const error = server.last_error;
    return element(
      "tr",
      null,
      cell("Address", element("code", null, server.address)),
      cell("State", element("span", { class: "word", "data-state": kind, title: server.state }, word)),
      cell("Health", server.healthy ? "Healthy" : "Checks fail"),
      cell("p50", milliseconds(server.latency?.p50_ms), "number"),
      cell("p99", milliseconds(server.latency?.p99_ms), "number"),
      cell("Last error", error ? `${error.why}, ${ago(error.when)}` : "None", error ? "" : "quiet"),
    );
  });
  byId("servers").replaceChildren(...rows);
}

function showBypasses(bypasses) {
  const reasons = Object.entries(bypasses).filter(([, count]) => count > 0).sort((a, b) => b[1] - a[1]);
  const most = reasons[0]?.[1];
  const items = reasons.map(([reason, count]) => {
    const meter = element("meter", { min: 0, max: most, value: count, "aria-label": reason });
    return element("li", null, element("code", null, reason), whole.format(count), meter);
  });
  list("bypasses", items, "None.");
}

function showMarks({ set, latest }) {
  const { user, item, all } = set;
  say("marks-more", `Since the start: ${whole.format(user)} of users, ${whole.format(item)} of items, ${whole.format(all)} of everything.`);
  const items = latest.slice(0, 6).map((mark) => {
    const strength = mark.strength === "soft" ? "stale at best" : "gone";
    return element("li", null, element("span", null, `${SCOPES[mark.scope] ?? mark.scope}: ${strength}`), time(mark.set));
  });
  list("marks", items, "None.");
}

function showReloads(reloads) {
  const items = reloads.slice(0, 6).map((reload) => {
    const applied = reload.result === "applied";
    const word = element("span", { class: "word", "data-state": applied ? "good" : "bad" }, applied ? "Applied" : "Refused");
    const change = ({ key, before, after }) => `${key}: ${before ?? "none"} → ${after ?? "none"}`;
    const waiting = (reload.waiting ?? []).map((it) => `from the next start on, ${change(it)}`);
    const lines = [...(reload.changes ?? []).map(change), ...waiting, ...(reload.reasons ?? [])];
    const told = lines.length ? lines.join("; ") : applied ? "Nothing changed." : "";
    return element("li", null, element("span", null, word, ` by ${reload.by}`), time(reload.when), element("p", { class: "lines" }, told));
  });
  list("reloads", items, "None since the start.");
}

// ---- asking ---------------------------------------------------------------------------------------------------------

let token = sessionStorage.getItem(KEPT_AS);
let minutes = 15;
let timer;
let lastAnswer;
let asking = 0;

class Refused extends Error {}

async function ask(path) {
  const answer = await fetch(path, {
    headers: { Authorization: `Bearer ${token}` },
    cache: "no-store",
    credentials: "omit",
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  if (answer.ok) return answer.json();
  const told = await answer.json().catch(() => ({}));
  throw answer.status === 401
    ? new Refused("That is not the token.")
    : answer.status === 403
      ? new Refused(told.message)
      : new Error(`It answers ${answer.status}.`);
}

async function look() {
  clearTimeout(timer);
  const turn = ++asking;
  try {
    const span = minutes;
    const [status, history] = await Promise.all([ask("/status"), ask(`/history?minutes=${span}`)]);
    if (turn !== asking) return;
    lastAnswer = new Date();
    byId("sign-in").hidden = true;
    byId("board").hidden = false;
    byId("notice").hidden = true;
    show(status, history, span);
  } catch (error) {
    if (turn !== asking) return;
    if (error instanceof Refused) return signIn(error.message);
    unreachable();
  }
  if (!document.hidden) timer = setTimeout(look, EVERY_MS);
}

function unreachable() {
  state("bad", "Unreachable");
  const fault = "The edge does not answer.";
  if (byId("board").hidden) {
    byId("sign-in").hidden = false;
    say("token-fault", `${fault} It is asked again.`);
  } else {
    say("notice", `${fault} What is shown is of ${clock.format(lastAnswer)}; it is asked again.`);
    byId("notice").hidden = false;
  }
}

function signIn(fault) {
  clearTimeout(timer);
  asking++;
  token = null;
  sessionStorage.removeItem(KEPT_AS);
  byId("board").hidden = true;
  byId("sign-in").hidden = false;
  say("token-fault", fault ?? "");
  state("waiting", "Waiting for the token");
  byId("token").value = "";
  byId("token").focus();
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  // What is in a header must be, or the browser itself refuses it.
  if (!/^[\x21-\x7e]+$/.test(token)) return signIn("That is not the token.");
  sessionStorage.setItem(KEPT_AS, token);
  say("token-fault", "");
  look();
});

byId("forget").addEventListener("click", () => signIn());

document.querySelectorAll("[data-minutes]").forEach((button) => {
  button.addEventListener("click", () => {
    minutes = Number(button.dataset.minutes);
    document.querySelectorAll("[data-minutes]").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    look();
  });
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && token) look();
});

if (token) look();
else signIn();
