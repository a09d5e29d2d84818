// The images. Only the cards near the window exist; each is one SVG over its thumbnail.

const SORTS = {
  wrong: ["most errors", (c) => c.wrong + c.missed],
  missed: ["most missed objects", (c) => c.missed],
  false: ["most wrong detections", (c) => c.wrong],
  surest: ["surest wrong detection", (c) => c.surest],
  f1: ["lowest F1", (c) => (c.right + c.wrong + c.missed
    ? 1 - (2 * c.right) / (2 * c.right + c.wrong + c.missed) : -1)],
  name: ["file name", null],
};
const GAP = 12;
const CAPTION = { wide: 54, narrow: 72 }; // pixels below a picture: two lines, or three
let shown = []; // places in `items` with their counts, in the order of the page
let counted = []; // counts per place

const offsets = [0];
if (gallery) for (const length of gallery.thumbnails) offsets.push(offsets[offsets.length - 1] + length);
let store = null;
function thumbnail(i) {
  store ??= byId("thumbnails")?.textContent ?? "";
  const text = store.slice(offsets[i], offsets[i + 1]);
  return text && `data:image/jpeg;base64,${text}`;
}

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const DIGIT = new Map(Array.from(DIGITS, (letter, i) => [letter, i]));
const rounded = (value) => Math.round(value * 10) / 10;

// The path of an outline; of a box where there is none.
function shape(item, one, { box, outline }) {
  const rings = one[outline];
  if (!rings) {
    const [x, y, width, height] = one.slice(box, box + 4);
    return `M${x} ${y}h${width}v${height}h${-width}z`;
  }
  const scale = Math.max(item.width, item.height) / 4095;
  return rings.split(" ").map((ring) => {
    const points = [];
    for (let i = 0; i + 3 < ring.length; i += 4) {
      const [a, b, c, d] = Array.from(ring.slice(i, i + 4), (letter) => DIGIT.get(letter));
      points.push(`${rounded((64 * a + b) * scale)} ${rounded((64 * c + d) * scale)}`);
    }
    return points.length ? `M${points.join("L")}z` : "";
  }).join("");
}

// The lines between the key points that are seen, and a dot at each of them.
function bones(points) {
  const at = (k) => `${points[3 * k] + 0.5} ${points[3 * k + 1] + 0.5}`;
  const seen = (k) => points[3 * k + 2];
  const lines = gallery.skeleton.filter((pair) => pair.every(seen))
    .map(([a, b]) => `M${at(a)}L${at(b)}`);
  const dots = Array.from({ length: points.length / 3 }, (_, k) => k).filter(seen)
    .map((k) => `M${at(k)}h0`);
  return [lines.join(""), dots.join("")];
}

function drawing(item, one, places, kind, { dashed = false, label = "", taken = [] } = {}) {
  const path = shape(item, one, places);
  const edge = dashed ? "edge dashed" : "edge";
  const group = drawn("g", { style: `--of:var(--${kind})`, class: dashed ? "quiet" : "" });
  if (one[places.outline] && !dashed) group.append(drawn("path", { class: "fill", d: path }));
  if (!dashed) group.append(drawn("path", { class: "halo", d: path }));
  group.append(drawn("path", { class: edge, d: path }));
  if (one[places.points]) {
    const [lines, dots] = bones(one[places.points]);
    group.append(drawn("path", { class: "halo", d: lines }), drawn("path", { class: "bones", d: lines }),
      drawn("path", { class: "joints", d: dots }));
  }
  if (label) group.append(labelAt(item, one.slice(places.box, places.box + 4), label, taken));
  return group;
}

// A label at the first corner of a box where it hides none of those that are `taken` already.
function labelAt(item, [x, y, width, height], label, taken) {
  const size = Math.max(item.width, item.height) / (innerWidth < 704 ? 30 : 48);
  const length = 0.62 * size * label.length;
  const places = [[x, y], [x, y + 1.2 * size], [x + width - length, y], [x, y + height + 1.2 * size],
    [x + width - length, y + 1.2 * size], [x, y + height], [x, y - 1.2 * size]].map(([left, bottom]) =>
    [Math.max(2, Math.min(left, item.width - length - 2)),
      Math.max(1.1 * size, Math.min(bottom, item.height))]);
  const isFree = ([left, bottom]) => taken.every(([l, b, long]) =>
    left >= l + long || l >= left + length || Math.abs(bottom - b) >= size);
  const [left, bottom] = places.find(isFree) ?? places[0];
  taken.push([left, bottom, length]);
  const text = drawn("text", { x: left, y: bottom - 0.3 * size, style: `--size:${size}px` });
  text.textContent = label;
  return text;
}

const concerns = (one) => state.class < 0 || one[0] === state.class;

// The picture of an image with what was annotated and found; `parts` are also given separately.
function picture(i, { objects = true, found = true, labels = false } = {}) {
  const item = items[i];
  const svg = drawn("svg", { viewBox: `0 0 ${item.width} ${item.height}`, class: "overlay",
    preserveAspectRatio: "xMidYMid meet", role: "img", "aria-label": item.name });
  const source = thumbnail(i);
  if (source) {
    svg.append(drawn("image", { href: source, width: item.width, height: item.height,
      preserveAspectRatio: "none" }));
  }
  const parts = { objects: [], found: [] };
  const hits = foundObjects(item);
  const taken = []; // by labels
  item.objects.forEach((object, k) => {
    if (!objects || !concerns(object)) return;
    const missed = !hits.has(k);
    parts.objects[k] = drawing(item, object, OBJECT, missed ? "missed" : "truth",
      { dashed: true, label: labels ? data.classes[object[0]] : "" });
    svg.append(parts.objects[k]);
  });
  item.found.forEach((one, k) => {
    if (!found || !isShown(one) || !concerns(one)) return;
    const score = (one[DETECTION.score] / 1000).toFixed(2);
    const kind = isRight(one) || isWrong(one) ? VERDICTS[one[DETECTION.verdict]] : "background";
    parts.found[k] = drawing(item, one, DETECTION, kind,
      { label: labels && `${data.classes[one[0]]} ${score}`, taken });
    svg.append(parts.found[k]);
  });
  return { svg, parts };
}

function select() {
  counted = items.map(count);
  const wanted = state.name.trim().toLowerCase();
  const [, key] = SORTS[state.sort];
  shown = items.map((_, i) => i).filter((i) => {
    const counts = counted[i];
    if (state.class >= 0 && !counts.any) return false;
    if (wanted && !items[i].name.toLowerCase().includes(wanted)) return false;
    for (const kind of state.errors) if (!counts.kinds.has(kind)) return false;
    return !state.pair
      || pairs(items[i]).some(([a, b]) => a === state.pair[0] && b === state.pair[1]);
  });
  if (key) shown.sort((a, b) => key(counted[b]) - key(counted[a]) || a - b);
  else shown.sort((a, b) => items[a].name.localeCompare(items[b].name) || a - b);
  const all = grouped(items.length);
  byId("shown").textContent = shown.length === items.length
    ? `${all} images` : `${grouped(shown.length)} of ${all} images`;
  const pair = byId("pair-filter");
  pair.hidden = !state.pair;
  if (state.pair) {
    pair.textContent = `${annotatedName(state.pair[0])} → ${foundName(state.pair[1])} ✕`;
    pair.setAttribute("aria-label", `Remove the filter ${pair.textContent}`);
  }
}

function card(place, layout) {
  const i = shown[place];
  const counts = counted[i];
  const made = element("button", { type: "button", class: "card", role: "listitem",
    "aria-setsize": shown.length, "aria-posinset": place + 1, "data-name": items[i].name,
    style: `width:${layout.width}px;height:${layout.height}px;transform:translate(`
      + `${(place % layout.columns) * (layout.width + GAP)}px,`
      + `${Math.floor(place / layout.columns) * (layout.height + GAP)}px)`,
    onclick: () => openViewer(place) });
  const line = element("span", { class: "counts" });
  line.append(element("span", { class: "right" }, `${counts.right} right`), " · ",
    element("span", { class: counts.wrong ? "wrong" : "" }, `${counts.wrong} wrong`), " · ",
    element("span", { class: counts.missed ? "missed" : "" }, `${counts.missed} missed`));
  made.append(picture(i).svg, element("span", { class: "caption" },
    element("span", { class: "name" }, items[i].name), line));
  return made;
}

const cards = new Map(); // cards that exist, by their place
let layout = null;

function measureGrid() {
  const { clientWidth } = byId("grid");
  const columns = Math.max(1, Math.floor((clientWidth + GAP) / (clientWidth < 480 ? 160 : 250)));
  const width = (clientWidth - GAP * (columns - 1)) / columns;
  const caption = width < 220 ? CAPTION.narrow : CAPTION.wide;
  return { columns, width, height: Math.round(width * 0.75 + caption) };
}

function drawNearby() {
  const grid = byId("grid");
  const { top } = grid.getBoundingClientRect();
  const row = layout.height + GAP;
  const first = Math.max(0, Math.floor((-top - innerHeight / 2) / row)) * layout.columns;
  const last = Math.max(0, Math.ceil((1.5 * innerHeight - top) / row)) * layout.columns;
  for (const [place, made] of cards) {
    if (place < first || place >= last) { made.remove(); cards.delete(place); }
  }
  for (let place = first; place < Math.min(last, shown.length); place += 1) {
    if (cards.has(place)) continue;
    cards.set(place, card(place, layout));
    const next = cards.get(place + 1);
    if (next) next.before(cards.get(place));
    else grid.append(cards.get(place));
  }
}

function drawGrid() {
  layout = measureGrid();
  cards.clear();
  const grid = byId("grid");
  const rows = Math.ceil(shown.length / layout.columns);
  grid.style.height = shown.length ? `${rows * (layout.height + GAP)}px` : "auto";
  grid.replaceChildren(...(shown.length ? [] : [element("p", { class: "nothing" },
    "No image is as you ask; take a filter away.")]));
  drawNearby();
}

function showImages(filter) {
  change("filter", { class: -1, pair: null, name: "", errors: new Set(), ...filter });
  byId("images").scrollIntoView();
}

function startGallery() {
  byId("sort").append(...Object.entries(SORTS).map(([key, [name]]) =>
    element("option", { value: key }, name)));
  byId("class-filter").append(element("option", { value: -1 }, "all"),
    ...data.classes.map((name, i) => element("option", { value: i }, name)));
  byId("sort").addEventListener("change", (e) => change("filter", { sort: e.target.value }));
  byId("class-filter").addEventListener("change",
    (e) => change("filter", { class: Number(e.target.value) }));
  byId("name-filter").addEventListener("input", (e) => change("filter", { name: e.target.value }));
  byId("pair-filter").addEventListener("click", () => change("filter", { pair: null }));
  byId("error-filter").append(...ERRORS.map((kind) => element("button", { type: "button",
    "data-kind": kind, onclick: () => {
      const errors = new Set(state.errors);
      if (!errors.delete(kind)) errors.add(kind);
      change("filter", { errors });
    } }, element("span", { class: "dot", style: `background:${colour(kind)}` }), NAMES[kind])));
  byId("legend").append(
    element("li", {}, element("i", { class: "dashed", style: "color:var(--soft)" }), "annotated and found"),
    element("li", {}, element("i", { class: "dashed", style: `color:${colour("missed")}` }), "missed"),
    ...VERDICTS.slice(0, IGNORED).map((kind) =>
      element("li", {}, element("i", { style: `color:${colour(kind)}` }), NAMES[kind])));
  const refresh = () => {
    byId("class-filter").value = state.class;
    byId("name-filter").value = state.name;
    byId("sort").value = state.sort;
    for (const button of byId("error-filter").children) {
      button.setAttribute("aria-pressed", String(state.errors.has(button.dataset.kind)));
    }
    select();
    drawGrid();
  };
  watchers.filter.push(refresh);
  watchers.threshold.push(once(refresh));
  refresh();
  addEventListener("scroll", once(drawNearby), { passive: true });
  whenSized(byId("grid"), drawGrid);
  // thumbnails stand behind this script
  document.addEventListener("DOMContentLoaded", () => { store = null; drawGrid(); });
}
