/* Small helpers and plots. Text is only ever set as text, never as markup. */
const SVG = "http://www.w3.org/2000/svg";

function el(tag, attributes, ...children) {
  const svg = ["svg", "g", "circle", "line", "path", "text", "rect", "title"].includes(tag);
  const node = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

const byId = (id) => document.getElementById(id);

function number(value, digits) {
  if (value === null || value === undefined) return "–";
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits, signDisplay: "negative" }).replace("-", "−");
}

function signed(value, digits) {
  if (value === null || value === undefined) return "–";
  const text = number(Math.abs(value), digits);
  return Number(text.replaceAll(",", "")) === 0 ? text : (value < 0 ? "−" : "+") + text;
}

function ticks(low, high, count) {
  const span = high - low || 1;
  const raw = span / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((f) => f * power).find((s) => s >= raw * 0.9);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * span; k++) found.push(k === 0 ? 0 : k * step);
  return { values: found, digits: Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9) + (/2.5/.test(String(step / power)) ? 1 : 0))) };
}

function extent(values, margin) {
  let low = Math.min(...values), high = Math.max(...values);
  if (low === high) { const pad = Math.abs(low) * 0.02 || 1; low -= pad; high += pad; }
  const pad = (high - low) * margin;
  return [low - pad, high + pad];
}

/* An empty plot with axes: scales x and y from [low, high] in data to pixels, and the group to draw in. */
function frame(svg, width, height, xRange, yRange, options) {
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  const box = { left: options.left ?? 46, right: width - 12, top: options.top ?? 12, bottom: height - (options.xTitle ? 40 : 22) };
  const log = options.logX;
  const fx = (v) => (log ? Math.log10(v) : v);
  const x = (v) => box.left + ((fx(v) - fx(xRange[0])) / (fx(xRange[1]) - fx(xRange[0]) || 1)) * (box.right - box.left);
  const y = (v) => box.bottom - ((v - yRange[0]) / (yRange[1] - yRange[0] || 1)) * (box.bottom - box.top);
  const axes = el("g", { "aria-hidden": "true" });
  const down = ticks(yRange[0], yRange[1], Math.max(3, Math.floor((box.bottom - box.top) / 44)));
  for (const v of down.values) {
    axes.append(el("line", { class: "gridline", x1: box.left, x2: box.right, y1: y(v), y2: y(v) }));
    axes.append(el("text", { x: box.left - 6, y: y(v) + 4, "text-anchor": "end", text: number(v, down.digits) }));
  }
  const across = log ? { values: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 1e5, 1e6].filter((v) => v >= xRange[0] && v <= xRange[1]), digits: 0 }
    : ticks(xRange[0], xRange[1], Math.max(3, Math.floor((box.right - box.left) / 90)));
  for (const v of across.values) {
    axes.append(el("line", { class: "gridline", x1: x(v), x2: x(v), y1: box.top, y2: box.bottom }));
    const text = number(v, across.digits), half = 3.5 * text.length; /* about half of its width, so that none ends beyond the picture */
    axes.append(el("text", { x: Math.max(half, Math.min(width - half, x(v))), y: box.bottom + 16, "text-anchor": "middle", text }));
  }
  axes.append(el("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
  if (options.xTitle) axes.append(el("text", { class: "title", x: box.right, y: height - 6, "text-anchor": "end", text: options.xTitle }));
  if (options.yTitle) axes.append(el("text", { class: "title", x: 2, y: 11, text: options.yTitle }));
  const inside = el("g", {});
  svg.append(axes, inside);
  return { x, y, box, inside };
}

function path(points) {
  let pen = "M";
  return points.map(([x, y]) => {
    if (x === null || y === null || !Number.isFinite(y)) { pen = "M"; return ""; }
    const part = `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
    return part;
  }).join("");
}

const colour = (index) => `var(--c${index % 8})`;

/* Lines over a shared x: series [{name, points: [[x, y]…], colour, width}]; a legend below. */
function linePlot(parent, series, options) {
  const svg = el("svg", { role: "img", "aria-label": options.label });
  parent.append(svg);
  const draw = () => {
    const width = Math.max(200, parent.clientWidth), all = series.flatMap((s) => s.points).filter((p) => p[1] !== null);
    if (!all.length) return;
    const xs = all.map((p) => p[0]);
    const range = options.yRange || extent(all.map((p) => p[1]), 0.06);
    const f = frame(svg, width, options.height, [Math.min(...xs), Math.max(...xs)], range, options);
    for (const s of series) {
      const d = path(s.points.map(([a, b]) => [f.x(a), b === null ? null : f.y(b)]));
      const line = el("path", { d, fill: "none", stroke: s.colour, "stroke-width": s.width || 1.6 });
      line.append(el("title", { text: s.name }));
      f.inside.append(line);
    }
  };
  watchSize(parent, draw);
  if (options.legend) {
    parent.append(el("div", { class: "lines" }, ...series.map((s) => {
      const dot = el("span", { class: "dot" });
      dot.style.background = s.colour;
      return el("span", {}, dot, s.name);
    })));
  }
}

const drawn = new Map();
const observer = new ResizeObserver((entries) => {
  for (const entry of entries) {
    const known = drawn.get(entry.target);
    if (known && known.width !== entry.contentRect.width) { known.width = entry.contentRect.width; known.draw(); }
  }
});

/* Draw now, and again whenever the width of the element changes. */
function watchSize(parent, draw) {
  draw();
  drawn.set(parent, { draw, width: parent.clientWidth });
  observer.observe(parent);
}

function forget(parent) {
  for (const node of [...drawn.keys()]) if (parent.contains(node)) { observer.unobserve(node); drawn.delete(node); }
  parent.replaceChildren();
}

/* Horizontal bars [{name, value, text}] on a scale from 0 to most. */
function bars(parent, rows, most) {
  const grid = el("div", { class: "bars" });
  for (const row of rows) {
    const fill = el("i", {});
    fill.style.width = `${Math.max(0, Math.min(100, (100 * row.value) / most))}%`;
    grid.append(el("span", { text: row.name }), el("div", { class: "bar", "aria-hidden": "true" }, fill), el("span", { text: row.text }));
  }
  parent.append(grid);
}

function table(parent, headings, rows) {
  const head = el("tr", {}, ...headings.map((h) => el("th", { scope: "col", class: h.n ? "n" : null, text: h.text ?? h })));
  const body = rows.map((row) => el("tr", {}, ...row.map((cell, k) => el("td", { class: `${headings[k].n ? "n" : headings[k].wrap ? "wrap" : ""}${cell.bad ? " bad" : ""}`, "data-label": headings[k].text, text: cell.text ?? cell }))));
  parent.append(el("table", { class: headings.length > 4 ? "stack" : "few" }, el("thead", {}, head), el("tbody", {}, ...body)));
}
