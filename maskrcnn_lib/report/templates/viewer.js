// One image, large, with a list of everything on it.

let open = 0; // place in `shown`
let closer = null; // what magnifies the image

function openViewer(place) {
  open = place;
  fillViewer();
  const viewer = byId("viewer");
  if (!viewer.open) viewer.showModal();
}

function step(by) {
  open = (open + by + shown.length) % shown.length;
  fillViewer();
}

function fillViewer() {
  const i = shown[open];
  const item = items[i];
  byId("viewer-name").textContent = item.name;
  byId("viewer-place").textContent = `${grouped(open + 1)} of ${grouped(shown.length)}`;
  const { svg, parts } = picture(i, { objects: byId("show-objects").checked,
    found: byId("show-found").checked, labels: byId("show-labels").checked });
  byId("viewer-picture").replaceChildren(svg);
  closer = zoomable(svg, item, (magnified) => { byId("whole").hidden = !magnified; });
  byId("whole").hidden = true;
  const everything = [...parts.objects, ...parts.found].filter(Boolean);
  const light = (part) => {
    for (const other of everything) {
      other.classList.toggle("lit", other === part);
      other.classList.toggle("dim", other !== part);
    }
  };
  const unlight = () => {
    for (const other of everything) other.classList.remove("dim", "lit");
  };
  const entry = (part, kind, name, note) => element("li", { tabindex: "0",
    onpointerenter: () => light(part), onfocus: () => light(part), onpointerleave: unlight,
    onblur: unlight,
  }, element("span", { class: "dot", style: `background:${colour(kind)}` }), name,
  element("small", {}, note));
  const hits = foundObjects(item);
  const found = Object.entries(parts.found).map(([k, part]) => {
    const one = item.found[k];
    const kind = VERDICTS[one[DETECTION.verdict]];
    const about = item.objects[one[DETECTION.concerned]];
    const note = kind === "class" ? `${NAMES[kind]}: ${data.classes[about[0]]}` : NAMES[kind];
    return entry(part, kind === "ignored" ? "background" : kind,
      `${data.classes[one[0]]} ${(one[DETECTION.score] / 1000).toFixed(2)}`, note);
  });
  const objects = Object.entries(parts.objects)
    .sort(([a], [b]) => hits.has(Number(a)) - hits.has(Number(b))) // the missed ones first
    .map(([k, part]) => entry(part, hits.has(Number(k)) ? "found" : "missed",
      data.classes[item.objects[k][0]], hits.has(Number(k)) ? "found" : "missed"));
  byId("viewer-list").replaceChildren(element("h3", {}, `Found (${found.length})`),
    element("ul", {}, ...found), element("h3", {}, `Annotated (${objects.length})`),
    element("ul", {}, ...objects));
}

function startViewer() {
  const viewer = byId("viewer");
  byId("close").addEventListener("click", () => viewer.close());
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("whole").addEventListener("click", () => closer.whole());
  for (const name of ["show-objects", "show-found", "show-labels"]) {
    byId(name).addEventListener("change", fillViewer);
  }
  const keys = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), 0: () => closer.whole(),
    "+": () => closer.magnify(1.5), "-": () => closer.magnify(1 / 1.5) };
  viewer.addEventListener("keydown", (event) => keys[event.key]?.());
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
}
