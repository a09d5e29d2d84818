// The confusion matrix: rows annotated, columns found; the last of both stands for nothing.

const MOST_LISTED = 15;
const SHOWN_AT_FIRST = 20; // of many classes, those that are confused most
const MANY = 24; // classes from which on not all are shown at first
const NAMED_UP_TO = 150; // classes; more get no room for their names
const CELL = { least: 11, most: 96 }; // pixels of a cell with names beside it
let matrix = []; // of all classes
let axis = []; // for each row and column that is shown, the classes it stands for
let sums = []; // of the matrix, as it is shown

const annotatedName = (i) => data.classes[i] ?? "nothing there";
const foundName = (i) => data.classes[i] ?? "missed";
const named = (name, members) => (members.length > 1 ? "other classes" : name(members[0]));
const total = (numbers) => numbers.reduce((a, b) => a + b, 0);

function fillMatrix() {
  const size = data.classes.length + 1;
  matrix = Array.from({ length: size }, () => new Uint32Array(size));
  for (const item of items) for (const [row, column] of pairs(item)) matrix[row][column] += 1;
  chooseAxis();
}

// All classes, or those that are most taken for others, then those with most other errors.
function chooseAxis() {
  const none = data.classes.length;
  const all = data.classes.map((_, i) => i);
  const few = none > MANY && byId("matrix-classes").value === "confused";
  const confused = all.map((i) => total(all.map((k) =>
    (k === i ? 0 : matrix[i][k] + matrix[k][i]))));
  const others = all.map((i) => matrix[i][none] + matrix[none][i]);
  const chosen = new Set(few ? [...all].sort((a, b) =>
    confused[b] - confused[a] || others[b] - others[a]).slice(0, SHOWN_AT_FIRST) : all);
  const rest = all.filter((i) => !chosen.has(i));
  axis = [...all.filter((i) => chosen.has(i)).map((i) => [i]), ...(rest.length ? [rest] : []), [none]];
  byId("matrix").parentElement.classList.toggle("stacked", axis.length > MANY + 1);
  sums = rest.length ? axis.map((rows) => axis.map((columns) =>
    total(rows.map((row) => total(columns.map((column) => matrix[row][column])))))) : matrix;
}

// Pixels: the margin for the names, a cell, and the side of the whole matrix.
function measureMatrix(width) {
  const count = axis.length;
  const isNamed = count <= NAMED_UP_TO;
  const margin = isNamed ? Math.min(110, width * 0.25) : 18;
  const room = Math.min(width, count > MANY + 1 ? 1100 : 736);
  const cell = isNamed
    ? Math.min(CELL.most, Math.max(CELL.least, (room - margin) / count)) : (room - margin) / count;
  return { isNamed, margin, cell, side: margin + cell * count };
}

function drawMatrix(width) {
  const count = axis.length;
  const { isNamed, margin, cell, side } = measureMatrix(width);
  const gap = cell > 6 ? 1 : 0; // finer cells stand on one plane, which is drawn faster
  const inner = cell - gap;
  const canvas = element("canvas", { role: "img", tabindex: "0",
    "aria-label": "Confusion matrix; the list beside it names its largest numbers" });
  const scale = devicePixelRatio || 1;
  canvas.width = side * scale;
  canvas.height = side * scale;
  canvas.style.width = `${side}px`;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const style = getComputedStyle(document.body);
  const [ink, card, soft, grid] = ["--ink", "--card", "--soft", "--grid"]
    .map((name) => style.getPropertyValue(name));
  const [right, wrong] = ["--found", "--class"].map((name) => style.getPropertyValue(name));
  pen.font = `${Math.min(12, Math.max(9, cell * 0.6))}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  const totals = sums.map(total);
  pen.fillStyle = grid;
  if (!gap) pen.fillRect(margin, margin, side - margin, side - margin);
  sums.forEach((row, i) => row.forEach((number, k) => {
    const [x, y] = [margin + k * cell, margin + i * cell];
    if (gap) {
      pen.globalAlpha = 1;
      pen.fillStyle = grid;
      pen.fillRect(x, y, inner, inner);
    }
    if (!number) return;
    pen.globalAlpha = 0.15 + 0.85 * (number / totals[i]);
    // of several classes together, right and wrong ones are not told apart
    pen.fillStyle = i !== k ? wrong : axis[i].length > 1 ? soft : right;
    pen.fillRect(x, y, inner, inner);
    if (cell < 24) return;
    pen.globalAlpha = 1;
    pen.fillStyle = number / totals[i] > 0.5 ? card : ink;
    pen.textAlign = "center";
    pen.fillText(String(number), x + cell / 2, y + cell / 2, cell - 3);
  }));
  pen.globalAlpha = 1;
  pen.fillStyle = soft;
  if (isNamed) {
    axis.forEach((members, i) => {
      pen.textAlign = "right";
      pen.fillText(named(annotatedName, members), margin - 5, margin + (i + 0.5) * cell, margin - 8);
      pen.save();
      pen.translate(margin + (i + 0.5) * cell, margin - 5);
      pen.rotate(-Math.PI / 2);
      pen.textAlign = "left";
      pen.fillText(named(foundName, members), 0, 0, margin - 8);
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
    const pair = at?.map((i) => axis[i]);
    if (pair && pair.every((members) => members.length === 1) && sums[at[0]][at[1]]) {
      showImages({ pair: pair.flat() });
    }
  });
  byId("matrix").replaceChildren(canvas);
  reserve();
}

// Keeps the place of the matrix, so that nothing below moves when it is drawn.
function reserve() {
  const place = byId("matrix");
  place.style.minHeight = `${measureMatrix(place.clientWidth).side}px`;
}

function describeCell(row, column) {
  const number = sums[row][column];
  return `annotated: ${named(annotatedName, axis[row])}\nfound: ${named(foundName, axis[column])}\n`
    + `${grouped(number)} (${percent(number / (total(sums[row]) || 1))} % of the row)`;
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
  byId("no-confusions").hidden = cells.length > 0;
}

function startConfusion() {
  byId("matrix-choice").hidden = data.classes.length <= MANY;
  fillMatrix();
  reserve();
  const draw = whenSized(byId("matrix"), drawMatrix);
  listConfusions();
  byId("matrix-classes").addEventListener("change", () => { chooseAxis(); draw(); });
  watchers.threshold.push(once(() => { fillMatrix(); draw(); listConfusions(); }));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}
