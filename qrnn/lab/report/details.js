/* Everything about one configuration. */
function card(title, value, note) {
  return el("div", { class: "card" }, el("b", { text: value }), el("span", { text: title }), ...(note ? [el("span", { text: note })] : []));
}

function showDetails(p) {
  byId("h-details").textContent = p.label;
  byId("crumbs").textContent = Object.entries(p.scheme).filter(([, value]) => `${value}` !== "").map(([name, value]) => `${name} ${value}`).join(" · ");
  const cards = figures.map((f) => card(f.title, figureText(p, f), note(p, f)));
  cards.push(card("saturated values", number(p.figures.saturated, 0), `${number(p.figures.saturated_percent, 4)} %`));
  if (p.figures.fall_db !== null) cards.push(card("fall of SQNR from first to last steps, dB", number(p.figures.fall_db, 1)));
  cards.push(card("largest error", number(p.figures.max_error, 4), `of output ${p.figures.output}`));
  byId("cards").replaceChildren(...cards);
  // an option is not broken behind its hyphens
  byId("command").replaceChildren(...p.command.split(/( )/).map((w) => (w.startsWith("-") ? el("span", { class: "option", text: w }) : w)));
  const d = p.details;
  for (const id of ["classes", "layers", "drift", "gates", "ranges", "saturation", "roundings", "worst"]) forget(byId(id));
  if (!d) { byId("layers").append(el("p", { class: "help", text: "Details are kept for the front only in a report of so many configurations; see its record in results/." })); return; }
  drawClasses(byId("classes"), d.byClass);
  const db = (e) => (e.sqnr_db === null ? 120 : e.sqnr_db), all = Object.entries({ ...d.outputs, ...d.layers });
  bars(byId("layers"), all.map(([name, e]) => ({ name, value: db(e), text: e.sqnr_db === null ? "exact" : `${number(e.sqnr_db, 1)} dB` })), Math.max(60, ...all.map(([, e]) => db(e))));
  byId("layers").append(el("p", { class: "help", text: "SQNR against the float64 model: longer is better." }));
  drawDrift(byId("drift"), d.drift);
  byId("gates").append(...d.gates.map(gateFigure));
  for (const figureNode of byId("gates").children) drawGate(figureNode, d.gates[[...byId("gates").children].indexOf(figureNode)]);
  bars(byId("ranges"), [
    ...Object.entries(d.ranges).map(([name, share]) => ({ name, value: share, text: `${number(100 * share, 1)} % at most` })),
    ...Object.entries(d.weight_ranges).map(([name, share]) => ({ name, value: share, text: `${number(100 * share, 1)} % RMS` })),
  ], 1);
  table(byId("saturation"), [{ text: "where", wrap: true }, { text: "values", n: true }, { text: "of", n: true }, { text: "share", n: true }],
    d.saturation.map((s) => [s.where, number(s.saturated, 0), number(s.total, 0), `${number(s.total ? (100 * s.saturated) / s.total : 0, 3)} %`]));
  table(byId("roundings"), [{ text: "where", wrap: true }, { text: "rounded", wrap: true }, { text: "saturates at", wrap: true }], d.roundings.map((r) => [r.where, r.rounded, r.saturated]));
  table(byId("roundings"), [{ text: "tensor", wrap: true }, { text: "shape" }, { text: "format", wrap: true }, { text: "one unit is", wrap: true }, { text: "range", wrap: true }],
    d.tensors.map((t) => [t.name, t.shape, t.format, t.scale, t.range]));
  for (const line of d.decisions) byId("roundings").append(el("p", { class: "help", text: line }));
  drawWorst(byId("worst"), d.worst);
}

function note(p, f) {
  const interval = p.intervals[f.name];
  if (interval) {
    const float = f.name !== "accuracy" || report.float.accuracy === undefined ? "" : `; float ${number(report.float.accuracy, 2)} %`;
    return `95 %: ${number(interval[0], 1)} – ${number(interval[1], 1)}${float}`;
  }
  if (f.name === "instructions" && p.figures.instructions !== null) return p.counted ? "counted in the emulator" : "by the cost model";
  if (f.name === "flash" && p.figures.flash_bytes !== null) return p.linked ? "of a linked program" : "constants and 4 KiB of code assumed";
  if (f.name === "latency" && p.latency) return `median of ${p.latency.of}`;
  return null;
}

function drawDrift(parent, drift) {
  const names = Object.keys(drift);
  if (!names.length) { parent.append(el("p", { class: "help", text: "No output or state has more than one step." })); return; }
  const series = names.map((name, k) => ({
    name, colour: colour(k), width: report.outputs.includes(name) ? 2.6 : 1.4,
    points: drift[name].map(([first, last, db]) => [Math.sqrt(first * last), db]),
  }));
  linePlot(parent, series, { height: 220, logX: true, left: 40, top: 20, yTitle: "SQNR, dB", xTitle: "time step", legend: true, label: "SQNR by time step" });
}

function gateFigure(gate) {
  const replaced = gate.function !== gate.integer_function ? ` as ${gate.integer_function}` : "";
  const caption = el("figcaption", {}, el("b", { text: `${gate.function}${replaced}` }), el("br"), el("span", {
    text: `${gate.where.join(", ")}; Q${15 - gate.in_frac}.${gate.in_frac} to Q${15 - gate.out_frac}.${gate.out_frac}, ${gate.kind}, ${gate.table_bytes} bytes; ` +
      `largest error ${gate.max_error.toPrecision(3)} (${number(gate.max_error_lsb, gate.max_error_lsb < 100 ? 2 : 0)} LSB) at x = ${number(gate.max_error_at, 2)}`,
  }));
  return el("figure", {}, el("div", {}), el("div", {}), caption);
}

function drawGate(node, gate) {
  const curve = report.curves[gate.curve], [top, bottom] = node.children;
  const pairs = (ys) => curve.x.map((x, k) => [x, ys[k]]);
  linePlot(top, [{ name: "float", points: pairs(curve.true), colour: "var(--soft)", width: 4 }, { name: "integer", points: pairs(curve.integer), colour: "var(--accent)", width: 1.5 }],
    { height: 120, left: 40, label: `${gate.function}: float (wide) and integer (narrow)` });
  const errors = curve.integer.map((v, k) => v - curve.true[k]), most = Math.max(...errors.map(Math.abs)) || 1;
  const power = Math.floor(Math.log10(most));
  linePlot(bottom, [{ name: "error", points: pairs(errors.map((v) => v / 10 ** power)), colour: "var(--bad)", width: 1 }],
    { height: 92, left: 40, top: 18, yTitle: power ? `error, 10^${power}`.replace("-", "−") : "error", label: `${gate.function}: error` });
}

function drawWorst(parent, worst) {
  if (!worst.length) { parent.append(el("p", { class: "help", text: "No sequence has an error." })); return; }
  const choices = ["label", "float", "quantized"].filter((name) => name in worst[0]);
  table(parent, [{ text: "sequence", n: true }, { text: "SQNR, dB", n: true }, { text: "largest error", n: true }, ...choices.map((c) => ({ text: c === "label" ? c : `${c} decides`, n: true }))],
    worst.map((w) => [w.sequence, number(w.sqnr_db, 1), number(w.max_error, 4), ...choices.map((c) => ({ text: w[c], bad: c === "quantized" && w.quantized !== w.float }))]));
}

async function copyCommand() {
  const button = byId("copy"), text = byId("command").textContent;
  try { await navigator.clipboard.writeText(text); button.textContent = "copied"; }
  catch { getSelection().selectAllChildren(byId("command")); button.textContent = "selected"; }
  setTimeout(() => { button.textContent = "copy"; }, 1500);
}
