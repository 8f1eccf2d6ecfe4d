// Facts
for (const [name, value] of Object.entries(data.settings)) {
  make("dt", $("settings"), name);
  const shown = make("dd", $("settings"));
  for (const part of value.split(/(?<=[\/\\])/)) {  // a path breaks after its separators
    shown.append(part);
    make("wbr", shown);
  }
}
data.summary.forEach((cells, row) => {
  const line = make("tr", row ? $("summary").tBodies[0] ?? make("tbody", $("summary"))
                              : make("thead", $("summary")));
  cells.forEach(cell => make(row ? "td" : "th", line, cell));
});
if (data.omitted) {
  $("omitted").hidden = false;
  $("omitted").textContent = `${data.omitted} more images are not shown.`;
}

// Scores, with the same number of digits in a column
const columns = [...new Set(data.entries.flatMap(entry => Object.keys(entry.scores)))];
const digits = Object.fromEntries(columns.map(column =>
  [column, data.entries.some(entry => Math.abs(entry.scores[column] ?? 0) > 2) ? 2 : 4]));
const score = (entry, column) => entry.scores[column]?.toFixed(digits[column]) ?? "\u2013";

// Viewer: two images on a stage that scrolls under the line
const view = $("view"), stage = $("stage"), line = $("line"), levels = ["fit", 1, 2, 4, 8];
let current = null, zoom = "fit";
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
function scale() {
  if (zoom !== "fit") return zoom;
  const { width, height } = data.entries[current];
  const fit = Math.min($("frame").clientWidth / width, innerHeight * 0.78 / height, 4);
  return fit > 1 ? Math.floor(fit) : fit;  // integer factors keep all pixels the same size
}
function visible() {  // left and right edge of the visible part of the stage
  const box = stage.getBoundingClientRect(), left = view.getBoundingClientRect().left;
  return [Math.max(box.left, left), Math.min(box.right, left + view.clientWidth)];
}
function place() {  // moves the line, and clips the left image at the line
  const [from, to] = visible(), box = stage.getBoundingClientRect();
  const x = from + (to - from) * $("slider").value / 100;
  line.style.left = `${x - $("frame").getBoundingClientRect().left}px`;
  $("before").style.clipPath = `inset(0 ${(box.right - x) / box.width * 100}% 0 0)`;
}
function zoomTo(level, x, y) {  // the point at (x, y), or at the center, stays in place
  zoom = level;
  if (current === null) return;
  const { width, height } = data.entries[current], size = scale();
  const frame = view.getBoundingClientRect(), was = stage.getBoundingClientRect();
  const [across, down] = [(x ?? frame.left + view.clientWidth / 2) - was.left,
                          (y ?? frame.top + view.clientHeight / 2) - was.top];
  stage.style.width = `${width * size}px`;
  stage.style.height = `${height * size}px`;
  stage.classList.toggle("near", size > 1);
  const now = stage.getBoundingClientRect(), after = view.getBoundingClientRect();
  const [toX, toY] = [x ?? after.left + view.clientWidth / 2,
                      y ?? after.top + view.clientHeight / 2];
  view.scrollLeft += now.left + across / (was.width || 1) * now.width - toX;
  view.scrollTop += now.top + down / (was.height || 1) * now.height - toY;
  for (const button of $("zooms").children)
    button.setAttribute("aria-pressed", button.value === String(zoom));
  place();
}
function zoomBy(step, x, y) {
  const size = scale(), fit = (zoom = "fit", scale()), sizes = levels.slice(1);
  zoomTo(step > 0 ? sizes.find(s => s > size) ?? 8
                  : sizes.findLast(s => s < size && s > fit) ?? "fit", x, y);
}
function pictures() {
  const entry = data.entries[current];
  [["left", "before"], ["right", "after"]].forEach(([side, image], k) => {
    const name = $(side).value;
    $(image).src = entry.pictures[name];
    $(image).alt = `${entry.name}, ${name}`;
    line.children[k].textContent = name;
  });
}
function select(index) {
  const entry = data.entries[current = index], names = Object.keys(entry.pictures);
  for (const [side, wanted] of [["left", "degraded"], ["right", "restored"]]) {
    const chosen = $(side).value || wanted;
    $(side).replaceChildren();
    names.forEach(name => make("option", $(side), name));
    $(side).value = names.includes(chosen) ? chosen : names.includes(wanted) ? wanted : names[0];
  }
  $("viewer").hidden = false;
  $("name").textContent = entry.name;
  $("scores").textContent =
    Object.keys(entry.scores).map(name => `${name} ${score(entry, name)}`).join(" \u00b7 ");
  $("note").textContent = entry.cropped
    ? `The central ${entry.width} x ${entry.height} pixels of ${entry.cropped}.`
    : `${entry.width} x ${entry.height} pixels.`;
  pictures();
  zoomTo(zoom);
  for (const row of $("images").tBodies[0].rows)
    mark(row, Number(row.dataset.index));
}
function mark(row, k) {
  row.classList.toggle("on", k === current);
  row.querySelector("button")?.setAttribute("aria-pressed", k === current);
}
function step(by) {
  const all = table.order.filter(k => data.entries[k].thumbnail);
  if (all.length) select(all[(all.indexOf(current) + by + all.length) % all.length]);
}
for (const level of levels) {
  const label = { fit: "fit", 1: "1:1" }[level] ?? `${level}\u00d7`;
  const button = make("button", $("zooms"), label);
  button.value = level;
  button.onclick = () => zoomTo(level);
}
$("slider").oninput = view.onscroll = place;
$("left").onchange = $("right").onchange = pictures;
$("previous").onclick = () => step(-1);
$("next").onclick = () => step(1);
addEventListener("resize", () => zoomTo(zoom));
addEventListener("keydown", event => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;  // shortcuts of the browser
  if (current === null || /INPUT|SELECT/.test(event.target.tagName)) return;  // needs arrow keys
  const action = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), "+": () => zoomBy(1),
    "-": () => zoomBy(-1), 0: () => zoomTo("fit") }[event.key];
  if (action) { event.preventDefault(); action(); }
});
let turned = 0;
view.addEventListener("wheel", event => {
  // The wheel scrolls the page until the image is clicked or Ctrl is held.
  if (!event.ctrlKey && (document.activeElement !== view || (zoom === "fit" && event.deltaY > 0)))
    return;
  event.preventDefault();
  turned += event.deltaY;  // touchpads send many small deltas
  if (Math.abs(turned) < 40) return;
  zoomBy(-turned, event.clientX, event.clientY);
  turned = 0;
}, { passive: false });
line.onpointerdown = event => { if (event.button === 0) line.setPointerCapture(event.pointerId); };
line.onpointermove = event => {
  if (!line.hasPointerCapture(event.pointerId)) return;
  const [from, to] = visible();
  $("slider").value = clamp((event.clientX - from) / (to - from) * 100, 0, 100);
  place();
};
let held = null;  // last position of a dragging pointer
stage.onpointerdown = event => {  // touch scrolls natively
  if (event.button !== 0 || event.pointerType === "touch") return;
  stage.setPointerCapture(event.pointerId);
  held = [event.clientX, event.clientY];
  view.classList.add("held");
};
stage.onpointermove = event => {
  if (!stage.hasPointerCapture(event.pointerId)) return;
  view.scrollBy(held[0] - event.clientX, held[1] - event.clientY);
  held = [event.clientX, event.clientY];
};
stage.onlostpointercapture = () => view.classList.remove("held");

// Table
const table = sortable($("images"), data.entries, [
  { name: "image", of: entry => entry.name },
  ...columns.map(name => ({ name, of: entry => entry.scores[name] })),
], (row, k) => {
  const entry = data.entries[k], cell = make("td", row);
  if (entry.thumbnail) {
    const button = make("button", cell), image = make("img", button);
    image.src = entry.thumbnail;
    image.alt = "";
    make("span", button, entry.name);
    mark(row, k);
    row.onclick = () => { select(k); $("viewer").scrollIntoView({ block: "nearest" }); };
  } else cell.textContent = entry.name;
  for (const column of columns) make("td", row, score(entry, column));
});
table.show();
const first = data.entries.findIndex(entry => entry.thumbnail);
if (first >= 0) select(first);
