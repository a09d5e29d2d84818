// Lines over axes, stacked columns, and bars: as SVG, as wide as the page lets them.

const HEIGHT = 260;
const MOST_DOTS = 25; // of a line; more would cover it
const MARGIN = { left: 46, right: 10, top: 8, bottom: 38 };

function niceTicks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((f) => f * power).find((s) => s >= rough);
  const ticks = [];
  for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-6; t += step) {
    ticks.push(Math.abs(t) < step * 1e-6 ? 0 : t);
  }
  return ticks;
}

const short = (value) => {
  const size = Math.abs(value);
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (size >= 1e4) return `${+(value / 1e3).toPrecision(3)}k`;
  if (!size || size >= 1e-3) return String(+value.toPrecision(3));
  return value.toExponential(1).replace(".0e", "e");
};

function axes(width, x, y) {
  const inner = { width: width - MARGIN.left - MARGIN.right,
    height: HEIGHT - MARGIN.top - MARGIN.bottom };
  const span = { x: x.high - x.low || 1, y: y.high - y.low || 1 };
  const place = {
    x: (v) => MARGIN.left + ((v - x.low) / span.x) * inner.width,
    y: (v) => MARGIN.top + (1 - (v - y.low) / span.y) * inner.height,
  };
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, role: "img" });
  for (const tick of niceTicks(y.low, y.high, 4)) {
    svg.append(
      drawn("line", { class: "frame", x1: MARGIN.left, x2: width - MARGIN.right,
        y1: place.y(tick), y2: place.y(tick) }),
      drawn("text", { x: MARGIN.left - 8, y: place.y(tick) + 4, "text-anchor": "end" }, short(tick)),
    );
  }
  for (const tick of x.ticks || niceTicks(x.low, x.high, Math.max(3, Math.min(6, width / 90)))) {
    const at = typeof tick === "number" ? { value: tick, text: short(tick) } : tick;
    svg.append(drawn("text", { x: place.x(at.value), y: HEIGHT - MARGIN.bottom + 17,
      "text-anchor": "middle" }, at.text));
  }
  svg.append(drawn("text", { x: MARGIN.left + inner.width / 2, y: HEIGHT - 4,
    "text-anchor": "middle" }, x.name));
  return { svg, place };
}

function keys(series) {
  return element("ul", { class: "keys" }, ...series.map((one) =>
    element("li", {}, element("span", { class: "dot", style: `background:${one.colour}` }), one.name)));
}

// series: {name, colour, points: [[x, y], ...]}; the axes are {low, high, name}.
function lineChart(place, make) {
  place.classList.add("chart");
  return whenSized(place, (width) => {
    const { series, x, y, mark } = make();
    const { svg, place: at } = axes(width, x, y);
    svg.setAttribute("aria-label", `${y.name} over ${x.name}: ${series.map((s) => s.name).join(", ")}`);
    for (const { points, colour: stroke } of series) {
      const path = points.map(([px, py], i) =>
        `${i ? "L" : "M"}${at.x(px).toFixed(1)} ${at.y(py).toFixed(1)}`).join("");
      svg.append(drawn("path", { class: "line", d: path, style: `stroke:${stroke}` }));
      if (points.length > MOST_DOTS) continue;
      svg.append(...points.map(([px, py]) =>
        drawn("circle", { cx: at.x(px), cy: at.y(py), r: 3, style: `fill:${stroke}` })));
    }
    const cross = drawn("line", { class: "cross", y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom,
      visibility: "hidden" });
    if (mark !== undefined) {
      svg.append(drawn("line", { class: "cross", x1: at.x(mark), x2: at.x(mark), y1: MARGIN.top,
        y2: HEIGHT - MARGIN.bottom }));
    }
    svg.append(cross);
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const share = ((event.clientX - box.left) * (width / box.width) - MARGIN.left)
        / (width - MARGIN.left - MARGIN.right);
      const wanted = x.low + Math.min(1, Math.max(0, share)) * (x.high - x.low);
      const near = series.filter((s) => s.points.length).map(({ name, points }) => {
        const best = points.reduce((a, b) =>
          Math.abs(b[0] - wanted) < Math.abs(a[0] - wanted) ? b : a);
        return { name, best };
      });
      if (!near.length) return;
      const [px] = near[0].best;
      cross.setAttribute("x1", at.x(px));
      cross.setAttribute("x2", at.x(px));
      cross.setAttribute("visibility", "visible");
      showTip(event, [`${x.name} ${short(px)}`,
        ...near.map(({ name, best }) => `${name}: ${short(best[1])}`)].join("\n"));
    });
    svg.addEventListener("pointerleave", () => {
      cross.setAttribute("visibility", "hidden");
      hideTip();
    });
    place.replaceChildren(svg, ...(series.length > 1 ? [keys(series)] : []));
  });
}

// columns: {name, parts: [number, ...]}; parts are named and coloured by `series`.
function stackedColumns(place, make) {
  place.classList.add("chart");
  return whenSized(place, (width) => {
    const { columns, series, name, tell, every } = make();
    const totals = columns.map(({ parts }) => parts.reduce((a, b) => a + b, 0));
    const ticks = columns.map((column, i) => ({ value: i + 0.5, text: column.name }))
      .filter((_, i) => i % (every || 1) === 0);
    const { svg, place: at } = axes(width, { low: 0, high: columns.length, name, ticks },
      { low: 0, high: Math.max(1, ...totals) });
    svg.setAttribute("aria-label", `${name}: ${columns.map((c, i) => `${c.name} ${totals[i]}`).join(", ")}`);
    columns.forEach((column, i) => {
      let below = 0;
      const group = drawn("g");
      group.append(drawn("rect", { x: at.x(i), width: at.x(i + 1) - at.x(i), y: MARGIN.top,
        height: HEIGHT - MARGIN.top - MARGIN.bottom, fill: "transparent" }));
      column.parts.forEach((part, k) => {
        if (!part) return;
        group.append(drawn("rect", { x: at.x(i) + 1, width: Math.max(1, at.x(i + 1) - at.x(i) - 2),
          y: at.y(below + part), height: at.y(below) - at.y(below + part),
          style: `fill:${series[k].colour}` }));
        below += part;
      });
      group.addEventListener("pointermove", (event) => showTip(event, tell(column)));
      group.addEventListener("pointerleave", hideTip);
      svg.append(group);
    });
    place.replaceChildren(svg, keys(series));
  });
}

// rows: {name, note, value 0..1, colour}; the longest bar fills the width.
function bars(rows) {
  const most = Math.max(1e-9, ...rows.map((row) => row.value));
  return element("div", { class: "bars" }, ...rows.flatMap((row) => [
    element("div", {}, row.name, " ", element("small", {}, row.note || "")),
    element("div", { class: "track" },
      element("i", { style: `width:${(100 * row.value) / most}%;background:${row.colour}` })),
    element("div", { class: "value" }, percent(row.value)),
  ]));
}
