// What all parts of the page share: the data, what the reader has chosen, and small helpers.

const data = JSON.parse(document.getElementById("data").textContent);
const gallery = data.gallery;
const items = gallery ? gallery.items : [];

// In the order of the numbers that the data use for verdicts.
const VERDICTS = ["found", "class", "localisation", "both", "duplicate", "background", "ignored"];
const [FOUND, , , , , , IGNORED] = VERDICTS.keys();
const ERRORS = ["class", "localisation", "both", "duplicate", "background", "missed"];
const NAMES = {
  found: "right", class: "wrong class", localisation: "wrong place", both: "wrong class and place",
  duplicate: "duplicate", background: "background", missed: "missed", ignored: "in a crowd, ignored",
};
const MEANINGS = {
  class: "Overlaps an object by 0.5 or more, but calls it by the name of another class.",
  localisation: "The right class, but overlaps the object by 0.1 to 0.5 only.",
  both: "Overlaps an object of another class, by 0.1 to 0.5 only.",
  duplicate: "Would be right, had not a surer detection found the object already.",
  background: "Overlaps no object by more than 0.1.",
  missed: "An object that nothing found, and at which no error of class or place points.",
};
const KINDS = { bbox: "Boxes", segm: "Masks", keypoints: "Key points" };

// The places of what an object and a detection say.
const OBJECT = { class: 0, box: 1, size: 5, outline: 6, points: 7 };
const DETECTION = { class: 0, score: 1, verdict: 2, concerned: 3, covered: 4, box: 5, outline: 9, points: 10 };

const state = {
  kind: Object.keys(data.kinds).includes("segm") ? "segm" : Object.keys(data.kinds)[0],
  threshold: 500, sort: "wrong", class: -1, name: "", errors: new Set(), pair: null,
};
const watchers = { kind: [], threshold: [], filter: [] };

function change(what, values) {
  Object.assign(state, values);
  for (const watcher of watchers[what]) watcher();
}

const byId = (id) => document.getElementById(id);
const colour = (name) => `var(--${name})`;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function drawn(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const percent = (value) => (value === null || value === undefined ? "–" : (100 * value).toFixed(1));
const grouped = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");

// Runs a function before the next frame, however often it is asked for until then.
function once(run) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; run(); });
  };
}

// Draws a chart as wide as its place, once it comes near the window or is printed, and whenever its
// width changes.
function whenSized(place, draw) {
  let [width, near] = [0, false];
  const update = () => {
    if (!near || place.clientWidth === width || !place.clientWidth) return;
    width = place.clientWidth;
    draw(width);
  };
  new ResizeObserver(update).observe(place);
  new IntersectionObserver((entries, observer) => {
    near = entries.some((entry) => entry.isIntersecting);
    if (near) observer.disconnect();
    update();
  }, { rootMargin: "400px" }).observe(place);
  addEventListener("beforeprint", () => { near = true; update(); });
  return () => { if (width) draw(width); };
}

const tip = byId("tip");
function showTip(event, text) {
  tip.textContent = text;
  tip.hidden = !text;
  const right = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(8, right)}px`;
  tip.style.top = `${Math.max(8, event.clientY - tip.offsetHeight - 12)}px`;
}
const hideTip = () => { tip.hidden = true; };
