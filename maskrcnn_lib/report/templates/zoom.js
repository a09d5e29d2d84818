// Looking closer at the large image: the wheel or two fingers magnify, a drag moves, two clicks or
// the key 0 show all of it again. What is drawn stays as thin, and letters as small, as before.

const MOST_MAGNIFIED = 16;

// `changed` is told whether the image is magnified.
function zoomable(svg, { width, height }, changed) {
  const view = { x: 0, y: 0, scale: 1 };
  const fingers = new Map();
  const show = () => {
    view.scale = Math.min(MOST_MAGNIFIED, Math.max(1, view.scale));
    view.x = Math.min(width * (1 - 1 / view.scale), Math.max(0, view.x));
    view.y = Math.min(height * (1 - 1 / view.scale), Math.max(0, view.y));
    svg.setAttribute("viewBox",
      `${view.x} ${view.y} ${width / view.scale} ${height / view.scale}`);
    svg.style.setProperty("--magnified", view.scale);
    changed(view.scale > 1);
  };
  const perPixel = () => 1 / svg.getScreenCTM().a;
  const magnify = (factor, { clientX, clientY }) => {
    const at = new DOMPoint(clientX, clientY).matrixTransform(svg.getScreenCTM().inverse());
    const before = view.scale;
    view.scale = Math.min(MOST_MAGNIFIED, Math.max(1, before * factor));
    view.x = at.x - (at.x - view.x) * (before / view.scale);
    view.y = at.y - (at.y - view.y) * (before / view.scale);
    show();
  };
  const middle = (points) => ({ clientX: (points[0].clientX + points[1].clientX) / 2,
    clientY: (points[0].clientY + points[1].clientY) / 2 });
  const apart = ([a, b]) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) || 1;
  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    magnify(2 ** (-event.deltaY / 300), event);
  }, { passive: false });
  svg.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, event);
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointermove", (event) => {
    const last = fingers.get(event.pointerId);
    if (!last) return;
    const before = [...fingers.values()];
    fingers.set(event.pointerId, event);
    if (before.length === 2) {
      const after = [...fingers.values()];
      magnify(apart(after) / apart(before), middle(after));
    } else {
      view.x -= (event.clientX - last.clientX) * perPixel();
      view.y -= (event.clientY - last.clientY) * perPixel();
      show();
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    svg.addEventListener(name, (event) => fingers.delete(event.pointerId));
  }
  const whole = () => { view.scale = 1; show(); };
  svg.addEventListener("dblclick", whole);
  return { whole, magnify: (factor) => {
    const { left, top, width: across, height: down } = svg.getBoundingClientRect();
    magnify(factor, { clientX: left + across / 2, clientY: top + down / 2 });
  } };
}
