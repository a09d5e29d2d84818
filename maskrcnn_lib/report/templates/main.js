// Puts the page together: which sections there are, and the confidence that rules them.

function startSections() {
  const has = { kinds: Object.keys(data.kinds).length > 0, gallery: Boolean(gallery),
    errors: Object.values(data.kinds).some((kind) => kind.errors), training: data.training.length > 0 };
  for (const part of document.querySelectorAll("[data-needs]")) {
    if (!has[part.dataset.needs]) part.remove();
  }
  const sections = [...document.querySelectorAll("main section")];
  const links = new Map(sections.map((section) => [section,
    element("a", { href: `#${section.id}` }, section.dataset.name)]));
  byId("sections").append(...links.values());
  const mark = once(() => {
    const here = sections.filter((s) => s.getBoundingClientRect().top < innerHeight / 3).pop()
      || sections[0];
    for (const [section, link] of links) {
      if (section === here) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    // where there is no room for all links, the row moves along
    byId("sections").scrollLeft = links.get(here).offsetLeft - innerWidth / 3;
  });
  addEventListener("scroll", mark, { passive: true });
  mark();
  byId("subtitle").textContent = data.subtitle;
  return has;
}

// A word, and what stands for it where there is little room.
const words = (long, brief) => [element("span", { class: "long" }, long),
  element("span", { class: "short", "aria-hidden": "true" }, brief)];

function startConfidence() {
  const slider = byId("threshold");
  Object.assign(slider, { min: gallery.min_percent, max: 99, step: 1 });
  const curves = curvesByConfidence();
  const best = curves.reduce((a, b) => (b.f1 > a.f1 ? b : a));
  slider.value = state.threshold / 10;
  const show = () => {
    byId("threshold-value").textContent = (state.threshold / 1000).toFixed(2);
    const at = curves.find(({ threshold }) => threshold === state.threshold);
    byId("live").replaceChildren(...words("precision", "P"), ` ${percent(at.precision)} · `,
      ...words("recall", "R"), ` ${percent(at.recall)}`);
  };
  slider.addEventListener("input", () => change("threshold", { threshold: 10 * Number(slider.value) }));
  const series = [["precision", "found"], ["recall", "duplicate"], ["f1", "both"]]
    .map(([key, tint]) => ({ name: key === "f1" ? "F1" : key, colour: colour(tint),
      points: curves.filter((c) => c[key] !== null).map((c) => [c.threshold / 1000, c[key]]) }));
  const chart = lineChart(byId("by-confidence"), () => ({ series, mark: state.threshold / 1000,
    x: { low: gallery.min_percent / 100, high: 1, name: "confidence" },
    y: { low: 0, high: 1, name: "share" } }));
  byId("by-confidence").after(element("p", { class: "note" }, "F1 is highest at ",
    element("button", { type: "button", onclick: () => {
      slider.value = best.threshold / 10;
      change("threshold", { threshold: best.threshold });
    } }, (best.threshold / 1000).toFixed(2)), ` (${percent(best.f1)}).`));
  watchers.threshold.push(show, once(chart));
  show();
}

function start() {
  const has = startSections();
  byId("notes")?.append(data.notes.join(" "));
  if (has.errors) {
    byId("error-meanings").append(...ERRORS.flatMap((name) => [element("dt", {},
      element("span", { class: "dot", style: `background:${colour(name)}` }), NAMES[name]),
    element("dd", {}, MEANINGS[name])]));
  }
  if (has.kinds) startTables();
  if (has.training) startTraining();
  if (!has.gallery) {
    byId("confidence").remove();
    return;
  }
  state.threshold = Math.max(state.threshold, 10 * gallery.min_percent);
  startConfidence();
  stackedColumns(byId("score-histogram"), scoreColumns);
  watchers.threshold.push(once(stackedColumns(byId("size-histogram"), sizeColumns)));
  startConfusion();
  startGallery();
  startViewer();
}

start();
