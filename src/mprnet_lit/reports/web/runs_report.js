// Headline
for (const [name, value] of data.headline) {
  const fact = make("div", $("headline"));
  make("dt", fact, name);
  make("dd", fact, value);
}

// Validation images
function panel() {
  const shown = data.panels[$("run").selectedIndex], k = Number($("epoch").value);
  const [epoch, picture] = shown.panels[k];
  const trial = trials.find(t => t.name === shown.trial), curve = trial.curves["val/psnr"];
  const found = curve ? curve[1].lastIndexOf(epoch) : -1;
  const psnr = found >= 0 ? `, val/psnr ${curve[2][found].toFixed(2)} dB` : "";
  const best = trial.epoch === epoch ? " (the best)" : "";
  const few = shown.panels.length < shown.of
    ? `; ${shown.panels.length} of ${shown.of} epochs are on this page` : "";
  $("panel").src = picture;
  $("panel").alt = `validation images of ${shown.trial}, epoch ${epoch}`;
  $("caption").textContent = `${shown.trial}: epoch ${epoch}${psnr}${best}${few}.`;
  $("epoch").setAttribute("aria-valuetext", `epoch ${epoch}`);
}
function ofRun() {
  const list = data.panels[$("run").selectedIndex].panels;
  $("epoch").max = list.length - 1;
  $("epoch").value = list.length - 1;
  $("epoch").hidden = list.length < 2;
  panel();
}
if (data.panels.length) {
  $("panels").hidden = false;
  for (const shown of data.panels) make("option", $("run"), shown.trial);
  $("whose").hidden = data.panels.length < 2;
  $("run").onchange = ofRun;
  $("epoch").oninput = panel;
  ofRun();
}

// Table
function format(value) {  // four significant digits
  const short = Number.isInteger(value) || typeof value !== "number";
  return value === null ? "\u2013" : String(short ? value : Number(value.toPrecision(4)));
}
const duration = seconds => {
  if (seconds === null) return "\u2013";
  const [h, m, s] = [seconds / 3600, seconds / 60 % 60, seconds % 60].map(Math.floor);
  return h ? `${h} h ${m} min` : m ? `${m} min ${s} s` : `${s} s`;
};
const digits = n => v => v === null ? "\u2013" : v.toFixed(n);
const columns = [
  { name: "run", of: t => t.name },
  ...data.keys.map((key, k) => ({ name: key, of: t => t.settings[k], show: format })),
  { name: "PSNR", of: t => t.psnr, show: digits(2), down: true },
  { name: "SSIM", of: t => t.ssim, show: digits(4), down: true },
  { name: "epoch", of: t => t.epoch, show: format },
  { name: "parameters", of: t => t.parameters,
    show: v => v === null ? "\u2013" : v.toLocaleString("en") },
  { name: "latency (s)", of: t => t.latency, show: format },
  { name: "state", of: t => t.state },
  { name: "duration", of: t => t.seconds, show: duration },
].filter(c => ["run", "PSNR", "state"].includes(c.name) || trials.some(t => c.of(t) !== null));
let order = trials.map(t => t.index), sorted = {};

function rows() {
  $("trials").tBodies[0].replaceChildren();
  for (const k of order) {
    const trial = trials[k], row = make("tr", $("trials").tBodies[0]);
    row.dataset.run = k;
    row.onclick = () => pick(k);
    for (const column of columns) {
      const cell = make("td", row), value = column.of(trial);
      if (column.name === "run") {
        const swatch = make("span", cell), button = make("button", cell, value);
        swatch.className = "swatch";
        swatch.style.setProperty("--own", trial.color);
        if (trial.error) make("p", cell, trial.error).className = "error";
        if (trial.state === "unfinished") make("p", cell, "running or killed: the run has not ended");
        for (const note of trial.notes) make("p", cell, note);
      } else if (column.name === "state") {
        make("span", cell, value).className = `state ${trial.state.replace(/\W/g, "")}`;
      } else {
        cell.textContent = column.show(value);
        if (typeof value === "string") cell.title = value;
        else if (typeof value === "number") cell.title = String(value);
      }
    }
  }
  rowMarks();
}
function rowMarks() {
  for (const row of $("trials").tBodies[0].rows) {
    const k = Number(row.dataset.run);
    row.classList.toggle("on", k === shared.picked);
    row.classList.toggle("dim", !(shared.selected?.has(k) ?? true));
    row.querySelector("button").setAttribute("aria-pressed", k === shared.picked);
  }
}
function compare(x, y) {
  const [a, b] = [typeof x === "number", typeof y === "number"];
  return a && b ? x - y : a !== b ? (a ? -1 : 1) : names.compare(String(x), String(y));
}
function sort(column) {
  const same = sorted.column === column;
  sorted = { column, up: same ? !sorted.up : !column.down };
  const sign = sorted.up ? 1 : -1;
  order.sort((p, q) => {
    const [x, y] = [p, q].map(k => column.of(trials[k]) ?? null);
    return x === null || y === null ? (x === null) - (y === null) : sign * compare(x, y);
  });
  [...$("trials").tHead.rows[0].cells].forEach((header, k) => {
    const here = columns[k] === column;
    header.setAttribute("aria-sort", here ? (sorted.up ? "ascending" : "descending") : "none");
    header.querySelector("i").textContent = here ? (sorted.up ? " \u25b2" : " \u25bc") : "";
  });
  rows();
}
if (trials.every(t => t.name.length < 16)) $("trials").className = "short";
const head = make("tr", $("trials").tHead);
for (const column of columns) {
  const header = make("th", head);
  const button = make("button", header);
  for (const part of column.name.split(/(?<=[._])/)) {  // allows line breaks in long keys
    button.append(part);
    make("wbr", button);
  }
  make("i", button);
  button.onclick = () => sort(column);
  if (column.name === "duration") header.title = "by the modification times of the run's files";
}
sort(columns.find(c => c.name === "PSNR"));

// Differences
function differences(parent, differ, same) {
  if (!differ.length) { if (!single) make("p", parent, same).className = "note"; return; }
  const table = make("table", parent), head = make("tr", make("thead", table));
  for (const name of ["key", "value", "runs"]) make("th", head, name);
  const body = make("tbody", table);
  for (const [key, values] of differ) {
    values.sort(([a], [b]) => a - b || names.compare(a, b));
    values.slice(0, 8).forEach(([value, of], k) => {
      const row = make("tr", body);
      row.className = k ? "more" : "";
      make("td", row, k ? "" : key);
      make("td", row, value);
      make("td", row, of);
    });
    if (values.length > 8)
      make("td", make("tr", body), `\u2026 ${values.length} values in total`).colSpan = 3;
  }
}
function facts(parent, title, pairs) {
  if (!pairs?.length) return;
  const details = make("details", parent);
  make("summary", details, title);
  const list = make("dl", details);
  for (const [name, value] of pairs) { make("dt", list, name); make("dd", list, format(value)); }
}
differences($("config"), data.config.differ, "The configurations of all runs are the same.");
facts($("config"), "The whole configuration", data.config.whole);
differences($("environment"), data.environment.differ,
  "All runs with a record of it ran on the same machine with the same versions.");
facts($("environment"), single ? "All values" : "Values that all runs share", data.environment.same);
for (const id of ["config", "environment"])
  if ($(id).children.length === 1) make("p", $(id), "Not recorded.").className = "note";
