/* What each choice does, seen from the configuration that is selected. */
const schemeKey = (scheme) => JSON.stringify(Object.entries(scheme).map(([name, value]) => [name, String(value)]).sort());
let byScheme = null;

/* The configuration that differs from p in this choice alone; undefined where it was not measured. */
function partner(p, axis, value) {
  byScheme ??= new Map(points.map((one) => [schemeKey(one.scheme), one]));
  return byScheme.get(schemeKey({ ...p.scheme, [axis]: value }));
}

function change(from, to, f) {
  const [a, b] = [from, to].map((p) => (p === undefined ? null : p.figures[f.key] ?? null));
  return a === null || b === null ? null : b - a;
}

/* The least and the most change by a choice, over all pairs of configurations that differ in nothing else. */
function changes(axis, before, after, f) {
  const found = [];
  for (const p of points) if (String(p.scheme[axis]) === before) {
    const d = change(p, partner(p, axis, after), f);
    if (d !== null) found.push(d);
  }
  return found;
}

/* Whether a change cannot be told from none with so few decisions: the new value lies within the 95 % interval of the old one. */
function unsure(from, to, f) {
  const interval = to && from.intervals[f.name];
  return Boolean(interval) && to.figures[f.key] >= interval[0] && to.figures[f.key] <= interval[1];
}

function effectCell(p, axis, value, f) {
  const to = partner(p, axis, value), own = change(p, to, f), all = changes(axis, String(p.scheme[axis]), value, f);
  const text = signed(own, f.digits), moved = /^[+−]/.test(text), better = (own > 0) === f.more;
  const vague = unsure(p, to, f) || f.name === "latency";
  const kind = !moved || vague ? "n vague" : `n ${better ? "good" : "bad"}`;
  const ends = all.length ? [Math.min(...all), Math.max(...all)].map((d) => signed(d, f.digits)) : [];
  const range = ends.length && (ends[0] !== ends[1] || ends[0] !== text) ? el("small", { text: ends[0] === ends[1] ? ends[0] : `${ends[0]} … ${ends[1]}` }) : null;
  const same = !moved && !range ? " same" : "";
  return el("td", { class: kind + same, "data-label": f.title }, el("span", {}, text, range));
}

function drawEffects(p) {
  const known = figures.filter((f) => points.some((one) => (one.figures[f.key] ?? null) !== null));
  byId("effects-from").textContent = p.label;
  const head = el("tr", {}, el("th", { scope: "col", text: "choice" }), el("th", { scope: "col", class: "n", text: "pairs" }), ...known.map((f) => el("th", { class: "n", scope: "col", text: f.title })));
  const body = report.axes.flatMap(({ name, values }) => {
    const now = String(p.scheme[name]), others = values.filter((value) => value !== now);
    return others.map((value, k) => {
      const count = points.filter((one) => String(one.scheme[name]) === now && partner(one, name, value)).length;
      return el("tr", { class: k === 0 ? "first-of-axis" : null },
        el("td", { class: "wrap" }, el("b", { text: `${name} ${value}` }), el("small", { text: `in place of ${now}` })),
        el("td", { class: "n", "data-label": "pairs", text: number(count, 0) }), ...known.map((f) => effectCell(p, name, value, f)));
    });
  });
  byId("effects").replaceChildren(el("thead", {}, head), el("tbody", {}, ...body));
  byId("no-effects").hidden = body.length > 0;
}
