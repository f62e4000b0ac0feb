/* The scatter plot, its legend, the table of configurations, the finder; `select` shows a configuration's details. */
const report = JSON.parse(byId("data").textContent);
const points = report.points, figures = report.figures;
const state = { x: null, y: null, colour: (report.axes.find((a) => a.name === "gates") || report.axes[0] || { name: null }).name, hidden: new Set(), selected: null, focus: null, sort: null, everyRow: false };
const figure = (name) => figures.find((f) => f.name === name);
const valueOf = (p, f) => (p.figures[f.key] === null && f.name === "sqnr" && p.figures.exact ? report.exactDb : p.figures[f.key]);
const shown = () => points.filter((p) => valueOf(p, state.x) !== null && valueOf(p, state.y) !== null && !state.hidden.has(String(p.scheme[state.colour])));

function option(select, entries, chosen, change) {
  select.append(...entries.map(([value, text]) => el("option", { value, text, selected: value === chosen })));
  select.addEventListener("change", () => change(select.value));
}

/* Indices of points that nothing beats on both axes, from the cheapest up. */
function frontOf(some) {
  const sorted = [...some].sort((a, b) => valueOf(a, state.x) - valueOf(b, state.x) || valueOf(b, state.y) - valueOf(a, state.y));
  const found = [];
  let best = -Infinity;
  for (const p of sorted) if (valueOf(p, state.y) > best) { best = valueOf(p, state.y); found.push(p); }
  return found;
}

function guess(p, f) {
  const estimated = (f.name === "instructions" && !p.counted) || ((f.name === "flash" || f.name === "ram") && !p.linked);
  return estimated && p.figures[f.key] !== null ? "~" : "";
}

const figureText = (p, f) => (f.name === "sqnr" && p.figures.exact ? "exact" : guess(p, f) + number(p.figures[f.key], f.digits));

let places = [];

/* Points that are nearer to each other than this, in pixels, lie on each other. */
const TOUCHING = 5;

/* The rows of the table of configurations before a button that shows the others. */
const ROWS = 60;

function drawScatter() {
  const svg = byId("scatter"), box = svg.parentElement, width = Math.max(260, box.clientWidth);
  const some = shown(), front = frontOf(some);
  const height = Math.round(Math.max(280, Math.min(440, width * 0.55)));
  if (!some.length) { svg.replaceChildren(el("text", { x: 10, y: 40, text: "Nothing to show: choose other axes or values." })); places = []; return; }
  const basis = byId("zoom").checked && front.length > 1 ? front : some;
  const xs = extent(basis.map((p) => valueOf(p, state.x)), 0.06), ys = extent(basis.map((p) => valueOf(p, state.y)), 0.08);
  const f = frame(svg, width, height, xs, ys, { left: 52, top: 22, xTitle: state.x.title, yTitle: state.y.title });
  const inside = (p) => f.x(valueOf(p, state.x)) >= f.box.left - 8 && f.x(valueOf(p, state.x)) <= f.box.right + 8 && f.y(valueOf(p, state.y)) <= f.box.bottom + 8 && f.y(valueOf(p, state.y)) >= f.box.top - 8;
  const corners = front.flatMap((p, k) => {
    const at = [f.x(valueOf(p, state.x)), f.y(valueOf(p, state.y))];
    return k ? [[at[0], f.y(valueOf(front[k - 1], state.y))], at] : [at];
  });
  f.inside.append(el("path", { class: "front", d: path(corners) }));
  const values = colourValues();
  places = some.filter(inside).map((p) => ({ p, x: f.x(valueOf(p, state.x)), y: f.y(valueOf(p, state.y)), front: front.includes(p) }));
  places.sort((a, b) => a.x - b.x || a.y - b.y);
  const order = [...places].sort((a, b) => a.front - b.front);
  for (const at of order) {
    const c = colour(values.indexOf(String(at.p.scheme[state.colour])));
    if (at.front && at.p.intervals[state.y.name]) {
      f.inside.append(el("line", { class: "interval", x1: at.x, x2: at.x, y1: Math.max(f.box.top, f.y(at.p.intervals[state.y.name][1])), y2: Math.min(f.box.bottom, f.y(at.p.intervals[state.y.name][0])) }));
    }
    f.inside.append(el("circle", { cx: at.x, cy: at.y, r: at.front ? 6 : 4.5, fill: c, stroke: at.front ? null : c, class: at.front ? "on-front" : null, "data-key": at.p.key }));
  }
  drawCounts(f);
  const chosen = places.find((at) => at.p === state.selected);
  if (chosen) f.inside.append(el("circle", { class: "ring", cx: chosen.x, cy: chosen.y, r: 10, stroke: "var(--ink)" }));
  svg.setAttribute("aria-label", `${some.length} configurations, ${state.y.title} against ${state.x.title}; ${front.length} on the front`);
}

/* Write beside points that lie on each other how many they are. */
function drawCounts(f) {
  const groups = [];
  for (const at of places) {
    const near = groups.find((g) => Math.hypot(g.x - at.x, g.y - at.y) < TOUCHING);
    const mine = near || { x: at.x, y: at.y, count: 0, size: 6 };
    mine.count += 1;
    if (at.p === state.selected) mine.size = 12; /* there is a ring about it */
    if (!near) groups.push(mine);
  }
  const taken = [];
  const free = (box, obstacles) => box.left >= f.box.left && box.right <= f.box.right && box.top >= f.box.top && box.bottom <= f.box.bottom
    && obstacles.every((o) => box.right <= o.left || o.right <= box.left || box.bottom <= o.top || o.bottom <= box.top);
  const dots = groups.map((g) => ({ left: g.x - g.size, right: g.x + g.size, top: g.y - g.size, bottom: g.y + g.size }));
  for (const g of groups.filter((one) => one.count > 1)) {
    const text = `×${g.count}`, half = 4 * text.length;
    const at = (dx, dy) => ({ left: g.x + dx - half, right: g.x + dx + half, top: g.y + dy - 8, bottom: g.y + dy + 8 });
    const choices = [1, 1.7, 2.6, 3.6].flatMap((far) => [[1, 0], [-1, 0], [0, -1], [0, 1], [1, -1], [-1, -1], [1, 1], [-1, 1]].map(([x, y]) => at(x * (half + g.size + 2) * far, y * (g.size + 10) * far)));
    const box = choices.find((c) => free(c, [...taken, ...dots])) || choices.find((c) => free(c, taken));
    if (!box) continue;
    taken.push(box);
    f.inside.append(el("text", { class: "count", x: (box.left + box.right) / 2, y: box.bottom - 4, "text-anchor": "middle", text }));
  }
}

function showTip(at) {
  const tip = byId("tip");
  if (!at) { tip.hidden = true; return; }
  const same = places.filter((o) => o !== at && Math.hypot(o.x - at.x, o.y - at.y) < TOUCHING);
  const list = el("dl", {});
  for (const f of figures) if (at.p.figures[f.key] !== null || at.p.figures.exact) list.append(el("dt", { text: f.title }), el("dd", { text: figureText(at.p, f) }));
  const more = same.length ? el("div", { text: `and here: ${same.slice(0, 3).map((o) => o.p.label).join("; ")}${same.length > 3 ? `; ${same.length - 3} more` : ""}` }) : null;
  tip.replaceChildren(el("b", { text: at.p.label }), list, ...(more ? [more] : []));
  tip.hidden = false;
  const box = tip.parentElement.getBoundingClientRect(), size = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(0, Math.min(at.x + 14, box.width - size.width))}px`;
  tip.style.top = `${at.y + 14 + size.height > box.height && at.y > size.height + 14 ? at.y - size.height - 12 : at.y + 14}px`;
}

function wireScatter() {
  const svg = byId("scatter");
  const nearest = (event) => {
    const r = svg.getBoundingClientRect(), x = event.clientX - r.left, y = event.clientY - r.top;
    const found = places.map((at) => [Math.hypot(at.x - x, at.y - y) - (at.front ? 2 : 0), at]).sort((a, b) => a[0] - b[0])[0];
    return found && found[0] < 24 ? found[1] : null;
  };
  svg.addEventListener("pointermove", (event) => showTip(nearest(event)));
  svg.addEventListener("pointerleave", () => showTip(null));
  svg.addEventListener("click", (event) => { const at = nearest(event); if (at) { select(at.p); showTip(at); } });
  svg.addEventListener("blur", () => showTip(null));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (step && places.length) {
      const now = places.findIndex((at) => at.p === state.focus);
      state.focus = places[now < 0 ? 0 : (now + step + places.length) % places.length].p;
      showTip(places.find((at) => at.p === state.focus));
      event.preventDefault();
    } else if (event.key === "Enter" && state.focus) select(state.focus, true);
    else if (event.key === "Escape") showTip(null);
  });
}

const colourValues = () => (report.axes.find((a) => a.name === state.colour) || { values: [] }).values;

function drawLegend() {
  byId("legend").replaceChildren(...colourValues().map((value, index) => {
    const dot = el("span", { class: "dot", "aria-hidden": "true" });
    dot.style.background = colour(index);
    const toggle = () => {
      if (!state.hidden.delete(value)) state.hidden.add(value);
      drawLegend(); redraw();
    };
    return el("button", { type: "button", "aria-pressed": String(!state.hidden.has(value)), onclick: toggle }, dot, `${state.colour} ${value}`);
  }));
}

function drawTable() {
  const all = byId("all-rows").checked, marked = new Set(report.front);
  let rows = points.map((p, index) => ({ p, on: marked.has(index) })).filter((row) => all || row.on);
  const f = state.sort && state.sort.figure;
  if (f) rows.sort((a, b) => state.sort.sign * ((valueOf(a.p, f) ?? Infinity) - (valueOf(b.p, f) ?? Infinity)));
  const heads = [el("th", { scope: "col", text: "configuration" }), ...(all ? [el("th", { scope: "col", text: "front" })] : [])];
  for (const one of figures) {
    const turn = () => { state.sort = { figure: one, sign: state.sort && state.sort.figure === one ? -state.sort.sign : one.more ? -1 : 1 }; drawTable(); };
    const way = f === one ? (state.sort.sign > 0 ? "ascending" : "descending") : null;
    const arrow = way ? (way === "ascending" ? " ▲" : " ▼") : "";
    heads.push(el("th", { scope: "col", class: "n", "aria-sort": way }, el("button", { type: "button", onclick: turn, text: one.title + arrow })));
  }
  const part = state.everyRow ? rows : rows.slice(0, ROWS);
  const body = part.map(({ p, on }) => el("tr", { class: p === state.selected ? "selected" : null },
    el("td", { class: "wrap" }, el("button", { type: "button", class: "pick", text: p.label, onclick: () => select(p, true) })),
    ...(all ? [el("td", { "data-label": "on the front", text: on ? "●" : "–" })] : []),
    ...figures.map((one) => el("td", { class: "n", "data-label": one.title, text: figureText(p, one) }))));
  byId("table").replaceChildren(el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...body));
  byId("more-rows").hidden = part.length === rows.length;
  byId("more-rows").textContent = `show the other ${number(rows.length - part.length, 0)}`;
}

function findCheapest() {
  const bound = Number.parseFloat(byId("finder-bound").value), answer = byId("finder-answer");
  const good = points.filter((p) => valueOf(p, state.x) !== null && valueOf(p, state.y) !== null && valueOf(p, state.y) >= bound);
  good.sort((a, b) => valueOf(a, state.x) - valueOf(b, state.x) || valueOf(b, state.y) - valueOf(a, state.y));
  if (Number.isNaN(bound) || !good.length) {
    const best = Math.max(...points.filter((p) => valueOf(p, state.y) !== null).map((p) => valueOf(p, state.y)));
    answer.textContent = Number.isNaN(bound) ? "" : `none: the best has ${number(best, state.y.digits)}`;
    return null;
  }
  const p = good[0];
  answer.replaceChildren(el("button", { type: "button", text: p.label, onclick: () => select(p, true) }),
    `: ${figureText(p, state.x)} (${state.x.title}), ${figureText(p, state.y)} (${state.y.title})`);
  return p;
}

function resetFinder() {
  byId("finder-what").textContent = state.x.title;
  byId("finder-rule").textContent = `${state.y.title} at least`;
  const float = report.float[state.y.name], best = Math.max(...points.filter((p) => valueOf(p, state.y) !== null).map((p) => valueOf(p, state.y)));
  byId("finder-bound").value = (float !== undefined ? float - 0.5 : Math.floor(best - 3)).toFixed(state.y.digits);
  findCheapest();
}

function redraw() { drawScatter(); showTip(null); }

function select(p, scroll) {
  state.selected = p;
  state.focus = p;
  drawScatter(); drawTable(); drawEffects(p); showDetails(p);
  if (scroll) { byId("details").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" }); byId("details").focus({ preventScroll: true }); }
}

function start() {
  byId("subtitle").textContent = report.subtitle;
  byId("footer").textContent = report.footer;
  const known = (f) => points.some((p) => valueOf(p, f) !== null);
  const up = figures.filter((f) => f.more && known(f)), down = figures.filter((f) => !f.more && known(f));
  [state.y, state.x] = [up[0], down.find((f) => f.name === "instructions") || down[0]];
  option(byId("y-axis"), up.map((f) => [f.name, f.title]), state.y && state.y.name, (v) => { state.y = figure(v); resetFinder(); redraw(); });
  option(byId("x-axis"), down.map((f) => [f.name, f.title]), state.x && state.x.name, (v) => { state.x = figure(v); resetFinder(); redraw(); });
  option(byId("colour"), report.axes.map((a) => [a.name, a.name]), state.colour, (v) => { state.colour = v; state.hidden.clear(); drawLegend(); redraw(); });
  byId("zoom").addEventListener("change", redraw);
  byId("all-rows").addEventListener("change", drawTable);
  byId("more-rows").addEventListener("click", () => { state.everyRow = true; drawTable(); });
  byId("all-rows-label").textContent = `all ${points.length}, not only the ${report.front.length} on the front of ${report.frontOf.join(", ")}`;
  for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
  byId("finder-bound").addEventListener("input", findCheapest);
  byId("copy").addEventListener("click", copyCommand);
  for (const r of report.refused) byId("refused").append(el("p", { class: "help", text: `${r.label}: not for this model: ${r.refused}` }));
  if (!points.length || !state.x || !state.y) { byId("scatter-help").textContent = "No configuration could be measured."; return; }
  drawLegend(); resetFinder(); wireScatter();
  watchSize(byId("scatter").parentElement, () => { drawScatter(); showTip(null); });
  select(findCheapest() || points[0]);
}

start();
