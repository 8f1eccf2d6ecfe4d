// Figures, drawn by plotly
const trials = data.trials, single = trials.length === 1;
trials.forEach((trial, k) => { trial.index = k; });
const best = [...trials].sort((a, b) => (b.psnr ?? -Infinity) - (a.psnr ?? -Infinity));
const touch = matchMedia("(pointer: coarse)").matches;  // dragging scrolls the page
const figures = new Map();  // id of the element -> function that returns the figure

function draw(id) {
  const figure = figures.get(id)(), style = getComputedStyle(document.documentElement);
  const [text, soft, line, card] = ["text", "soft", "line", "card"].map(
    name => style.getPropertyValue(`--${name}`));
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: soft, tickcolor: soft,
    automargin: true, exponentformat: "e" };
  const template = { layout: { xaxis: axis, yaxis: axis,
    paper_bgcolor: "transparent", plot_bgcolor: "transparent", colorway: data.palette,
    modebar: { bgcolor: "transparent", color: soft, activecolor: text },
    font: { family: "system-ui, sans-serif", size: 13, color: text },
    hoverlabel: { bgcolor: card, bordercolor: soft, font: { color: text }, namelength: -1 } } };
  const layout = { height: 380, margin: { l: 10, r: 10, t: 26, b: 10 }, ...figure.layout, template };
  if (touch) layout.dragmode = false;
  Plotly.react(id, figure.data, layout, { responsive: true, displaylogo: false, displayModeBar: touch ? false : "hover",
    toImageButtonOptions: { format: "svg", filename: id },  // PNG needs blob: URLs
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] });
}
function add(id, figure) {
  figures.set(id, figure);
  draw(id);
}
matchMedia("(prefers-color-scheme: dark)").onchange = () => [...figures.keys()].forEach(draw);

// Highlighted run and selected runs, in all figures and in the table
const shared = { picked: null, selected: null };
const isShown = k => (shared.selected?.has(k) ?? true) && k === (shared.picked ?? k);
function mark() {
  for (const id of ["plot", "axes"]) {
    const traces = $(id)?.data?.filter(trace => trace.meta !== undefined) ?? [];
    if (traces.length) Plotly.restyle(id, {
      opacity: traces.map(trace => isShown(trace.meta) ? 1 : 0.12),
      "line.width": traces.map(trace => trace.meta === shared.picked ? 4 : 2),
    }, traces.map(trace => $(id).data.indexOf(trace)));
  }
  for (const row of $("trials").tBodies[0].rows) markRow(row, Number(row.dataset.index));
}
function pick(index) {
  shared.picked = shared.picked === index ? null : index;
  if (shared.picked !== null) table.reveal(index);
  mark();
}
function select(points) {
  shared.selected = points?.length ? new Set(points.map(point => point.data.meta)) : null;
  table.show();
  mark();
}

// Curves of one metric of all runs, or of the stages of one run
const escape = text => text.replace(/[&<>%]/g, found => `&#${found.charCodeAt()};`);
const family = name => name.replace(/^([^/]+\/[^_]+)_(degraded|stage\d)$/, "$1");
const metrics = Object.keys(data.metrics).sort(names.compare);
function means([steps, epochs, values]) {  // mean of each epoch
  const found = new Map();
  epochs.forEach((epoch, k) => {
    if (!found.has(epoch)) found.set(epoch, []);
    found.get(epoch).push(k);
  });
  return [[...found.values()].map(all => steps[all.at(-1)]), [...found.keys()],
    [...found.values()].map(all => all.reduce((sum, k) => sum + values[k], 0) / all.length)];
}
function curves() {
  const metric = $("metric").value, byStep = $("over").value === "step";
  const chosen = single
    ? metrics.filter(name => family(name) === metric).map(
        name => ({ name: data.metrics[name], curve: trials[0].curves[name] }))
    : best.filter(trial => trial.curves[metric]).slice(0, $("shown").value).map(trial => ({
        name: escape(trial.short) + (trial.failed ? " (failed)" : ""), hover: trial.label,
        meta: trial.index, line: { color: trial.color, dash: trial.dash },
        failed: trial.failed, curve: trial.curves[metric] }));
  let last = 0;
  const traces = chosen.map(({ curve, hover, failed, ...trace }) => {
    const [steps, epochs, values] = byStep ? curve : means(curve);
    last = Math.max(last, ...(byStep ? steps : epochs).slice(-1));
    return { ...trace, x: byStep ? steps : epochs, customdata: byStep ? epochs : steps, y: values,
      mode: values.length > 1 && !failed ? "lines" : "lines+markers",
      // A cross marks the end of a failed run.
      marker: failed ? { symbol: "x", size: values.map((_, k) => k < values.length - 1 ? 0 : 9) } : {},
      hovertemplate: `${hover ?? trace.name}: %{y:.5~g}<br>${byStep
        ? "step %{x}, epoch %{customdata}" : "epoch %{x}, step %{customdata}"}<extra></extra>` };
  });
  return { data: traces, layout: { hovermode: "closest", showlegend: true, uirevision: metric,
    xaxis: { title: { text: byStep ? "step" : "epoch" }, zeroline: false, tickformat: "d",
      dtick: last <= 12 ? 1 : undefined },
    yaxis: { type: $("log").checked ? "log" : "linear", zeroline: false },
    legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", maxheight: 0.35 } } };
}
function titles() {  // full names of the runs as tooltips of the legend
  const shown = $("plot").data;
  $("plot").querySelectorAll(".legend .traces").forEach((group, k) => {
    if (!shown[k] || group.querySelector("title")) return;
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = trials[shown[k].meta].name;
    group.prepend(title);
  });
}
for (const name of single ? new Set(metrics.map(family)) : metrics)
  make("option", $("metric"), name);
if (data.metrics["val/psnr"]) $("metric").value = "val/psnr";
const drawn = Math.min(trials.length, data.maxCurves);
for (const most of [...[5, 20].filter(most => most < drawn), drawn])
  make("option", $("shown"), most < trials.length ? `best ${most}` : "all").value = most;
$("shown").value = Math.min(trials.length, 20);
$("shown").parentNode.hidden = trials.length <= 5;
if (metrics.length) {
  add("plot", curves);
  if (!single) {
    titles();
    $("plot").on("plotly_afterplot", titles);
  }
  $("plot").on("plotly_click", event => { if (!single) pick(event.points[0].data.meta); });
  for (const id of ["metric", "over", "shown", "log"])
    $(id).onchange = () => { draw("plot"); mark(); };
} else $("plot").textContent = "No curves were logged.";
const omitted = [
  data.thinned ? `Thinned to ${data.thinned} points per curve; peaks are preserved.` : "",
  drawn < trials.length ? `Only the curves of the ${drawn} best runs are on this page; a report of `
    + "one run has its curves." : "",
].filter(Boolean);
$("thinned").hidden = !omitted.length;
$("thinned").textContent = omitted.join(" ");

// Parallel coordinates, importance, slices
function wide(parent, id, width, figure, layout) {  // scrolls horizontally on a narrow screen
  const box = make("div", parent);
  box.id = id;
  box.style.minWidth = `${width}px`;
  add(id, () => ({ data: figure.data, layout: { ...figure.layout, ...layout } }));
}
$("parallel").hidden = $("importance").hidden = single;
if (data.parallel) {
  const margin = { l: 20, r: 20, t: 60, b: 20 };
  const width = 105 * data.parallel.layout.xaxis.tickvals.length;
  wide($("parallel").querySelector(".wide"), "axes", width, data.parallel,
    { margin, dragmode: "select" });
  $("axes").on("plotly_selected", event => select(event?.points));
  $("axes").on("plotly_deselect", () => select(null));
  $("axes").on("plotly_click", event => pick(event.points[0].data.meta));
}
$("reading").textContent = data.parallel
  ? "Each line is a run; warm colors mark the best runs." + (touch ? "" : " Drag a box over an axis to "
    + "select the runs that pass through it; double-click to select all.")
  : data.keys.length ? "Fewer than two runs have a PSNR." : "No setting differs between the runs.";
$("why").textContent = data.importance.note;
data.importance.figures.forEach((figure, k) => {
  const [width, height] = k ? [140 * figure.data.length, 320]
    : [300, 90 + 30 * figure.data[0].y.length];
  if (k && innerWidth <= 700) {  // no room for the color bar and long keys
    for (const trace of figure.data) trace.marker.showscale = false;
    for (const [name, axis] of Object.entries(figure.layout))
      if (/^xaxis/.test(name) && axis.title) axis.title.text = axis.title.text.split(".").at(-1);
  }
  wide($("importance").querySelector(".wide"), `importance${k}`, width, figure, { height });
});

// Headline
for (const [name, value] of data.headline) {
  const fact = make("div", $("headline")), run = trials.find(t => t.name === value);
  make("dt", fact, name);
  make("dd", fact, name === "best run" && run ? run.short : value).title = value;
  if (name === "runs" && trials.some(t => t.failed)) fact.className = "bad";
}

// Validation images
function panel() {
  const shown = data.panels[$("run").selectedIndex], k = Number($("epoch").value);
  const [epoch, picture] = shown.panels[k];
  const trial = trials.find(t => t.name === shown.trial), curve = trial.curves["val/psnr"];
  const found = curve ? curve[1].lastIndexOf(epoch) : -1;
  const psnr = found >= 0 ? `, val/psnr ${curve[2][found].toFixed(2)} dB` : "";
  const best = trial.epoch === epoch ? " (best epoch)" : "";
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
  { name: "state", of: t => t.state },
  ...data.keys.map((key, k) => ({ name: key, of: t => t.settings[k], show: format })),
  { name: "PSNR", of: t => t.psnr, show: digits(2), down: true },
  { name: "SSIM", of: t => t.ssim, show: digits(4), down: true },
  { name: "epoch", of: t => t.epoch, show: format },
  { name: "parameters", of: t => t.parameters,
    show: v => v === null ? "\u2013" : v.toLocaleString("en") },
  { name: "latency (s)", of: t => t.latency, show: format },
  { name: "duration", of: t => t.seconds, show: duration,
    title: "by the modification times of the run's files" },
].filter(c => ["run", "PSNR", "state"].includes(c.name) || trials.some(t => c.of(t) !== null));

const table = sortable($("trials"), trials, columns, (row, k) => {
  const trial = trials[k];
  row.onclick = () => pick(k);
  for (const column of columns) {
    const cell = make("td", row), value = column.of(trial);
    cell.dataset.name = column.name;
    if (value === null) cell.className = "none";
    if (column.name === "run") {
      const swatch = make("span", cell);
      swatch.className = "swatch";
      swatch.style.setProperty("--own", trial.color);
      swatch.style.borderTopStyle = { dash: "dashed", dot: "dotted" }[trial.dash] ?? "solid";
      const button = make("button", cell, trial.short);
      if (trial.short !== value) {
        button.title = value;
        button.setAttribute("aria-label", value);
      }
      if (trial.error) make("p", cell, trial.error).className = "error";
      if (trial.state === "unfinished") make("p", cell, "running or killed: the run has no summary");
      for (const note of trial.notes) make("p", cell, note);
    } else if (column.name === "state") {
      make("span", cell, value).className = `state ${trial.state.replace(/\W/g, "")}`;
    } else {
      cell.textContent = column.show(value);
      if (value !== null) cell.title = String(value);
    }
  }
  markRow(row, k);
}, { more: t => [t.error, ...t.notes].join(" "), kept: k => shared.selected?.has(k) ?? true });
function markRow(row, k) {
  row.classList.toggle("bad", trials[k].failed);
  row.classList.toggle("on", k === shared.picked);
  row.querySelector("button").setAttribute("aria-pressed", k === shared.picked);
}
if (trials.every(t => t.short.length < 16)) $("trials").className = "short";
table.sort(columns.find(c => c.name === "PSNR"));

// Differences
function differences(parent, differ, same) {
  if (!differ.length) { if (!single) make("p", parent, same).className = "note"; return; }
  const table = make("table", parent), head = make("tr", make("thead", table));
  for (const name of ["key", "value", "runs"]) make("th", head, name);
  const body = make("tbody", table);
  for (const [key, values, count] of differ) {
    values.forEach(([value, of], k) => {
      const row = make("tr", body);
      row.className = k ? "more" : "";
      make("td", row, k ? "" : key);
      make("td", row, value);
      make("td", row, of);
    });
    if (count > values.length)
      make("td", make("tr", body), `\u2026 ${count} values in total`).colSpan = 3;
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
facts($("config"), "Full configuration", data.config.whole);
differences($("environment"), data.environment.differ,
  "All runs with a recorded environment have the same machine and versions.");
facts($("environment"), single ? "All values" : "Values that all runs share", data.environment.same);
for (const id of ["config", "environment"])
  if ($(id).children.length === 1) make("p", $(id), "Not recorded.").className = "note";

// Hints below figures and tables that are wider than the page
for (const box of document.querySelectorAll(".wide")) {
  const hint = make("p", box.parentNode, "Scroll sideways to see all of it.");
  hint.className = "note scroll";
  box.after(hint);
  const resized = new ResizeObserver(() => { hint.hidden = box.scrollWidth <= box.clientWidth; });
  for (const part of [box, ...box.children]) resized.observe(part);
}
