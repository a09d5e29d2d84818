// The confusion matrix: rows annotated, columns found; the last of both stands for nothing.

const MOST_LISTED = 15;
const LABELLED_UP_TO = 24; // classes; more get no room for their names
let matrix = [];

const annotatedName = (i) => data.classes[i] ?? "nothing there";
const foundName = (i) => data.classes[i] ?? "missed";

function fillMatrix() {
  const size = data.classes.length + 1;
  matrix = Array.from({ length: size }, () => new Uint32Array(size));
  for (const item of items) for (const [row, column] of pairs(item)) matrix[row][column] += 1;
}

function drawMatrix(width) {
  const count = matrix.length;
  const named = count <= LABELLED_UP_TO;
  const margin = named ? Math.min(110, width * 0.25) : 18;
  const side = Math.min(width, 736);
  const cell = (side - margin) / count;
  const inner = cell - (cell > 6 ? 1 : 0.25);
  const canvas = element("canvas", { role: "img", tabindex: "0",
    "aria-label": "Confusion matrix; the list beside it names its largest numbers" });
  const scale = devicePixelRatio || 1;
  canvas.width = side * scale;
  canvas.height = side * scale;
  canvas.style.maxWidth = `${side}px`;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const style = getComputedStyle(document.body);
  const [ink, card, soft, grid] = ["--ink", "--card", "--soft", "--grid"]
    .map((name) => style.getPropertyValue(name));
  const [right, wrong] = ["--found", "--class"].map((name) => style.getPropertyValue(name));
  pen.font = `${Math.min(12, Math.max(9, cell * 0.6))}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  const totals = matrix.map((row) => row.reduce((a, b) => a + b, 0));
  matrix.forEach((row, i) => row.forEach((number, k) => {
    const [x, y] = [margin + k * cell, margin + i * cell];
    pen.globalAlpha = 1;
    pen.fillStyle = grid;
    pen.fillRect(x, y, inner, inner);
    if (!number) return;
    pen.globalAlpha = 0.15 + 0.85 * (number / totals[i]);
    pen.fillStyle = i === k ? right : wrong;
    pen.fillRect(x, y, inner, inner);
    if (cell < 24) return;
    pen.globalAlpha = 1;
    pen.fillStyle = number / totals[i] > 0.5 ? card : ink;
    pen.textAlign = "center";
    pen.fillText(String(number), x + cell / 2, y + cell / 2);
  }));
  pen.globalAlpha = 1;
  pen.fillStyle = soft;
  if (named) {
    matrix.forEach((_, i) => {
      pen.textAlign = "right";
      pen.fillText(annotatedName(i), margin - 5, margin + (i + 0.5) * cell, margin - 8);
      pen.save();
      pen.translate(margin + (i + 0.5) * cell, margin - 5);
      pen.rotate(-Math.PI / 2);
      pen.textAlign = "left";
      pen.fillText(foundName(i), 0, 0, margin - 8);
      pen.restore();
    });
  } else {
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "left";
    pen.fillText("found →", margin, margin / 2);
    pen.rotate(-Math.PI / 2);
    pen.textAlign = "right";
    pen.fillText("← annotated", -margin, margin / 2);
  }
  const cellAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const factor = side / box.width;
    const at = [event.clientY - box.top, event.clientX - box.left]
      .map((v) => Math.floor((v * factor - margin) / cell));
    return at.every((v) => v >= 0 && v < count) ? at : null;
  };
  canvas.addEventListener("pointermove", (event) => {
    const at = cellAt(event);
    showTip(event, at ? describeCell(...at) : "");
  });
  canvas.addEventListener("pointerleave", hideTip);
  canvas.addEventListener("click", (event) => {
    const at = cellAt(event);
    if (at && matrix[at[0]][at[1]]) showImages({ pair: at });
  });
  byId("matrix").replaceChildren(canvas);
}

function describeCell(row, column) {
  const total = matrix[row].reduce((a, b) => a + b, 0);
  const number = matrix[row][column];
  return `annotated: ${annotatedName(row)}\nfound: ${foundName(column)}\n`
    + `${grouped(number)} (${percent(total ? number / total : 0)} % of the row)`;
}

function listConfusions() {
  const last = data.classes.length;
  const cells = [];
  matrix.forEach((row, i) => row.forEach((number, k) => {
    if (number && i !== k && i < last && k < last) cells.push([number, i, k]);
  }));
  cells.sort((a, b) => b[0] - a[0]);
  byId("confusions").replaceChildren(...cells.slice(0, MOST_LISTED).map(([number, i, k]) =>
    element("li", {}, element("button", { type: "button", onclick: () => showImages({ pair: [i, k] }) },
      `${annotatedName(i)} → ${foundName(k)}`), " ", element("small", {}, `${number}×`))));
  if (!cells.length) byId("confusions").replaceChildren(element("li", {}, "none at this confidence"));
}

function startConfusion() {
  fillMatrix();
  const draw = whenSized(byId("matrix"), drawMatrix);
  listConfusions();
  watchers.threshold.push(once(() => { fillMatrix(); draw(); listConfusions(); }));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}
