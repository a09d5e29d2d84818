// One image, large, with a list of everything on it.

let open = 0; // place in `shown`

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
  const { svg, parts } = picture(i, { objects: byId("show-objects").checked,
    found: byId("show-found").checked, labels: true });
  byId("viewer-picture").replaceChildren(svg);
  const everything = [...parts.objects, ...parts.found].filter(Boolean);
  const entry = (part, kind, name, note) => element("li", {
    onpointerenter: () => {
      part.classList.add("lit");
      for (const other of everything) other.classList.toggle("dim", other !== part);
    },
    onpointerleave: () => {
      for (const other of everything) other.classList.remove("dim", "lit");
    },
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
  const objects = Object.entries(parts.objects).map(([k, part]) => entry(part,
    hits.has(Number(k)) ? "found" : "missed", data.classes[item.objects[k][0]],
    hits.has(Number(k)) ? "found" : "missed"));
  byId("viewer-list").replaceChildren(element("h3", {}, `Found (${found.length})`),
    element("ul", {}, ...found), element("h3", {}, `Annotated (${objects.length})`),
    element("ul", {}, ...objects));
}

function startViewer() {
  const viewer = byId("viewer");
  byId("close").addEventListener("click", () => viewer.close());
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  for (const name of ["show-objects", "show-found"]) byId(name).addEventListener("change", fillViewer);
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
}
