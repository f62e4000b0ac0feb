/* Accuracy by class, and what each class is taken for. */
function drawClasses(parent, { classes, confusion, count }) {
  if (!classes.length) { parent.append(el("p", { class: "help", text: "The data have no labels." })); return; }
  const percent = (rate) => `${number(100 * rate, 1)} %`;
  const rates = el("div", {}), matrix = el("div", {});
  parent.append(el("div", { class: "columns" }, rates, matrix));
  bars(rates, classes.map((c) => ({
    name: `class ${c.class}`, value: c.quantized.rate,
    text: `${percent(c.quantized.rate)} of ${number(c.quantized.total, 0)}${c.float && c.float.count !== c.quantized.count ? `; float ${percent(c.float.rate)}` : ""}`,
  })), 1);
  if (classes.length < count) rates.append(el("p", { class: "help", text: `The ${classes.length} of ${number(count, 0)} classes with the most mistakes.` }));
  if (confusion) watchSize(matrix, () => drawConfusion(matrix, confusion));
}

/* The matrix where it has room, and else the mistakes by their frequency. */
function drawConfusion(parent, { classes, quantized, float }) {
  const most = Math.max(...quantized.flat()), digits = Math.max(String(most).length, ...classes.map((c) => String(c).length));
  parent.replaceChildren();
  if ((classes.length + 1) * (8 * digits + 10) > parent.clientWidth) {
    const mistakes = classes.flatMap((label, i) => classes.map((decided, k) => [label, decided, quantized[i][k]])).filter(([label, decided, n]) => n && label !== decided);
    if (!mistakes.length) { parent.append(el("p", { class: "help", text: "No class is taken for another." })); return; }
    mistakes.sort((a, b) => b[2] - a[2]);
    table(parent, [{ text: "label", n: true }, { text: "decided", n: true }, { text: "times", n: true }], mistakes.slice(0, 12).map((m) => m.map(String)));
    if (mistakes.length > 12) parent.append(el("p", { class: "help", text: `The 12 most frequent of ${number(mistakes.length, 0)} kinds of mistakes.` }));
    return;
  }
  const head = el("tr", {}, el("th", { scope: "col", text: "" }), ...classes.map((c) => el("th", { scope: "col", class: "n", text: String(c) })));
  const body = classes.map((label, i) => {
    const total = quantized[i].reduce((a, b) => a + b, 0) || 1;
    return el("tr", {}, el("th", { scope: "row", class: "n", text: String(label) }), ...classes.map((decided, k) => {
      const n = quantized[i][k], before = float ? float[i][k] : n;
      const cell = el("td", { class: `n${i === k ? " right" : n ? " bad" : " vague"}`, text: n ? number(n, 0) : "·", title: `label ${label} decided as ${decided}: ${n}, by float ${before}` });
      if (n) cell.style.background = `color-mix(in srgb, var(${i === k ? "--accent" : "--bad"}) ${Math.round(6 + (44 * n) / total)}%, transparent)`;
      return cell;
    }));
  });
  parent.append(el("table", { class: "matrix" }, el("thead", {}, head), el("tbody", {}, ...body)));
  parent.append(el("p", { class: "help", text: "A row for each label, a column for each decision of the quantized model." }));
}
