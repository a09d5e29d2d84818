// Everything that depends on the confidence: what is right, wrong and missed on each image.
//
// Which object a detection finds does not depend on detections of lower score, so the data say it
// once for all, and the page only leaves out what is below the confidence.

const isShown = (found) => found[DETECTION.score] >= state.threshold;
const isRight = (found) => found[DETECTION.verdict] === FOUND;
const isWrong = (found) => found[DETECTION.verdict] !== FOUND && found[DETECTION.verdict] !== IGNORED;

// Which objects of an image are found at the confidence.
function foundObjects(item) {
  const found = new Set();
  for (const one of item.found) if (isShown(one) && isRight(one)) found.add(one[DETECTION.concerned]);
  return found;
}

// Counts of one image, of the chosen class where there is one.
function count(item) {
  const counts = { right: 0, wrong: 0, missed: 0, surest: 0, kinds: new Set(), any: false };
  const counted = (one) => state.class < 0 || one[0] === state.class;
  for (const one of item.found) {
    if (!isShown(one) || !counted(one)) continue;
    counts.any = true;
    if (isRight(one)) counts.right += 1;
    else if (isWrong(one)) {
      counts.wrong += 1;
      counts.surest = Math.max(counts.surest, one[DETECTION.score]);
      counts.kinds.add(VERDICTS[one[DETECTION.verdict]]);
    }
  }
  const found = foundObjects(item);
  item.objects.forEach((object, i) => {
    if (!counted(object)) return;
    counts.any = true;
    if (!found.has(i)) counts.missed += 1;
  });
  if (counts.missed) counts.kinds.add("missed");
  return counts;
}

// Pairs [class annotated, class found] of one image; the number of classes stands for nothing.
// An object that nothing finds goes to the surest detection of another class that covers it.
function pairs(item) {
  const none = data.classes.length;
  const claimed = foundObjects(item);
  const made = [];
  for (const one of item.found) {
    if (!isShown(one)) continue;
    const covered = one[DETECTION.covered];
    if (isRight(one)) made.push([one[0], one[0]]);
    else if (isWrong(one) && covered >= 0 && !claimed.has(covered)) {
      claimed.add(covered);
      made.push([item.objects[covered][0], one[0]]);
    } else if (isWrong(one)) made.push([none, one[0]]);
  }
  item.objects.forEach((object, i) => { if (!claimed.has(i)) made.push([object[0], none]); });
  return made;
}

// Precision, recall and F1 at every confidence that the slider has.
function curvesByConfidence() {
  const objects = items.reduce((sum, item) => sum + item.objects.length, 0);
  const [right, wrong] = [new Array(1001).fill(0), new Array(1001).fill(0)];
  for (const item of items) {
    for (const one of item.found) {
      if (isRight(one)) right[one[DETECTION.score]] += 1;
      else if (isWrong(one)) wrong[one[DETECTION.score]] += 1;
    }
  }
  const curves = [];
  let [hits, misses] = [0, 0];
  for (let score = 1000; score >= 10 * gallery.min_percent; score -= 1) {
    hits += right[score];
    misses += wrong[score];
    if (score % 10) continue;
    const precision = hits + misses ? hits / (hits + misses) : null;
    const recall = objects ? hits / objects : 0;
    const f1 = hits ? (2 * precision * recall) / (precision + recall) : 0;
    curves.unshift({ threshold: score, precision, recall, f1 });
  }
  return curves;
}

const SCORE_BINS = 20;
function scoreColumns() {
  const kinds = VERDICTS.slice(0, IGNORED);
  const columns = Array.from({ length: SCORE_BINS }, (_, i) => ({
    name: (i / SCORE_BINS).toFixed(2), parts: kinds.map(() => 0) }));
  for (const item of items) {
    for (const one of item.found) {
      const bin = Math.min(SCORE_BINS - 1, Math.floor((one[DETECTION.score] * SCORE_BINS) / 1000));
      if (one[DETECTION.verdict] !== IGNORED) columns[bin].parts[one[DETECTION.verdict]] += 1;
    }
  }
  return {
    columns, name: "score", every: 4,
    series: kinds.map((kind) => ({ name: NAMES[kind], colour: colour(kind) })),
    tell: ({ name, parts }) => [`score from ${name}`,
      ...parts.map((part, i) => `${NAMES[kinds[i]]}: ${grouped(part)}`)].join("\n"),
  };
}

const SIZE_EDGES = [0, 16, 32, 64, 96, 128, 192, 256, 384];
function sizeColumns() {
  const columns = SIZE_EDGES.map((edge, i) => ({
    name: i ? String(edge) : "0", parts: [0, 0], next: SIZE_EDGES[i + 1] }));
  for (const item of items) {
    const found = foundObjects(item);
    item.objects.forEach((object, i) => {
      const bin = SIZE_EDGES.findLastIndex((edge) => object[OBJECT.size] >= edge);
      columns[bin].parts[found.has(i) ? 0 : 1] += 1;
    });
  }
  return {
    columns, name: "size from",
    series: [{ name: "found", colour: colour("found") }, { name: "not found", colour: colour("missed") }],
    tell: ({ name, next, parts: [hit, lost] }) => `${name}${next ? ` to ${next}` : " and more"} pixels\n`
      + `${grouped(hit)} of ${grouped(hit + lost)} found (${percent(hit / (hit + lost || 1))} %)`,
  };
}
