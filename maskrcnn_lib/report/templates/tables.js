// Scores: the tiles, the costs of errors, precision and recall, and the table of classes.

const LABELS = {
  AP: "AP", AP50: "AP at 0.5", AP75: "AP at 0.75", APs: "AP small", APm: "AP medium",
  APl: "AP large", AR1: "recall, 1 each", AR10: "recall, 10 each", AR100: "recall", AR: "recall",
};
const current = () => data.kinds[state.kind];

function showKinds() {
  const kinds = Object.keys(KINDS).filter((kind) => kind in data.kinds);
  if (kinds.length < 2) return;
  byId("kinds").replaceChildren(...kinds.map((kind) => element("button", {
    type: "button", "aria-pressed": String(kind === state.kind),
    onclick: () => change("kind", { kind }),
  }, KINDS[kind])));
}

function showTiles() {
  const { metrics } = current();
  byId("tiles").replaceChildren(...Object.entries(LABELS)
    .filter(([name]) => name in metrics && name !== "AR1" && name !== "AR10")
    .map(([name, label]) => element("div", { class: name === "AP" ? "tile main" : "tile" },
      element("b", {}, percent(metrics[name])), element("span", {}, label))));
}

function showErrors() {
  const { errors } = current();
  const section = byId("errors");
  if (section) section.hidden = !errors;
  if (!errors) return;
  byId("error-costs").replaceChildren(bars(ERRORS.map((name) => ({
    name: NAMES[name], note: `${grouped(errors.counts[name])}×`, value: errors.costs[name],
    colour: colour(name) }))));
  byId("error-totals").replaceChildren(bars([
    { name: "wrong detections", value: errors.false_positives, colour: colour("class") },
    { name: "objects not found", value: errors.false_negatives, colour: colour("missed") },
  ]), element("p", { class: "note" }, `AP at 0.5 is ${percent(errors.ap)}.`));
}

const PERCENTILES = Array.from({ length: 101 }, (_, i) => i / 100);
const UNIT = { low: 0, high: 1 };
const asPoints = (curve) => curve.map((p, i) => [PERCENTILES[i], p / 1000]);

function meanCurves() {
  const { mean } = current().precision;
  return {
    x: { ...UNIT, name: "recall" }, y: { ...UNIT, name: "precision" },
    series: mean.map((curve, i) => ({ name: (0.5 + 0.05 * i).toFixed(2), points: asPoints(curve),
      colour: `hsl(${215 + i * 11} 75% ${58 - i}%)` })),
  };
}

function oneClassCurves() {
  const { precision } = current();
  const chosen = Number(byId("pr-class").value);
  const series = [["at_50", "overlap 0.5", "found"], ["at_75", "overlap 0.75", "duplicate"]]
    .filter(([key]) => precision[key][chosen])
    .map(([key, name, tint]) => ({ name, points: asPoints(precision[key][chosen]),
      colour: colour(tint) }));
  return { x: { ...UNIT, name: "recall" }, y: { ...UNIT, name: "precision" }, series };
}

const COLUMNS = ["class", "objects", "found", "AP", "AP50", "AP75", "APs", "APm", "APl", "recall"];
const order = { column: 0, down: false };

function showClasses() {
  const wanted = byId("class-search").value.trim().toLowerCase();
  const rows = current().classes.map((values, i) => [data.classes[i], ...values, i])
    .filter(([name]) => name.toLowerCase().includes(wanted));
  const sign = order.down ? -1 : 1;
  rows.sort((a, b) => {
    const [left, right] = [a[order.column], b[order.column]];
    if (left === null || right === null) return (left === null) - (right === null);
    return sign * (typeof left === "string" ? left.localeCompare(right) : left - right);
  });
  const head = COLUMNS.map((name, column) => element("th", {
    scope: "col",
    "aria-sort": column === order.column && (order.down ? "descending" : "ascending"),
  }, element("button", { type: "button", onclick: () => {
    Object.assign(order, { column, down: column === order.column ? !order.down : column > 0 });
    showClasses();
  } }, name)));
  const body = rows.map((row) => {
    const [name, objects, found, ap, ...others] = row.slice(0, -1);
    const shown = gallery
      ? element("button", { type: "button", title: "Show its images",
        onclick: () => showImages({ class: row[row.length - 1] }) }, name)
      : name;
    const cells = others.map((value) => element("td", {}, percent(value)));
    return element("tr", {}, element("td", {}, shown), element("td", {}, grouped(objects)),
      element("td", {}, grouped(found)),
      element("td", { class: "ap", style: `background-size:${100 * (ap || 0)}% 70%` }, percent(ap)),
      ...cells);
  });
  byId("class-table").replaceChildren(element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...body));
}

function startTables() {
  byId("pr-class").append(...data.classes.map((name, i) => element("option", { value: i }, name)));
  const redraw = [lineChart(byId("pr-mean"), meanCurves), lineChart(byId("pr-one"), oneClassCurves)];
  byId("pr-class").addEventListener("change", redraw[1]);
  byId("class-search").addEventListener("input", showClasses);
  const parts = [showKinds, showTiles, showErrors, showClasses];
  watchers.kind.push(...parts, ...redraw);
  for (const part of parts) part();
}

function startTraining() {
  const places = data.training.map(({ title, series }) => {
    const chart = element("div");
    const points = series.flatMap((one) => one.points);
    const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
    const step = 360 / series.length;
    lineChart(chart, () => ({
      x: { low: Math.min(...xs), high: Math.max(...xs), name: "iteration" },
      y: { low: Math.min(0, ...ys), high: Math.max(...ys) || 1, name: title },
      series: series.map((one, i) => ({ ...one, colour: `hsl(${215 + i * step} 65% 52%)` })),
    }));
    return element("div", {}, element("h3", {}, title), chart);
  });
  byId("training-curves").replaceChildren(...places);
}
