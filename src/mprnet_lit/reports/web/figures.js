// Figures, drawn by plotly
const trials = data.trials, single = trials.length === 1;
trials.forEach((trial, k) => { trial.index = k; });
const best = [...trials].sort((a, b) => (b.psnr ?? -Infinity) - (a.psnr ?? -Infinity));
const names = new Intl.Collator(undefined, { numeric: true });
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
    toImageButtonOptions: { format: "svg", filename: id },  // PNG would need blob: URLs
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] });
}
function add(id, figure) {
  figures.set(id, figure);
  draw(id);
}
matchMedia("(prefers-color-scheme: dark)").onchange = () => [...figures.keys()].forEach(draw);

// The picked run and the selected runs, in all figures and in the table
const shared = { picked: null, selected: null };
const isShown = k => (shared.selected?.has(k) ?? true) && k === (shared.picked ?? k);
function mark() {
  for (const id of ["plot", "axes"]) {
    const traces = $(id).data?.filter(trace => trace.meta !== undefined) ?? [];
    if (traces.length) Plotly.restyle(id, {
      opacity: traces.map(trace => isShown(trace.meta) ? 1 : 0.12),
      "line.width": traces.map(trace => trace.meta === shared.picked ? 4 : 2),
    }, traces.map(trace => $(id).data.indexOf(trace)));
  }
  rowMarks();
}
function pick(index) {
  shared.picked = shared.picked === index ? null : index;
  mark();
}
function select(points) {
  shared.selected = points?.length ? new Set(points.map(point => point.data.meta)) : null;
  mark();
}

// Curves of one metric of all runs, or of the stages of one run
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
        name: trial.label, meta: trial.index, line: { color: trial.color },
        curve: trial.curves[metric] }));
  let last = 0;
  const traces = chosen.map(({ curve, ...trace }) => {
    const [steps, epochs, values] = byStep ? curve : means(curve);
    last = Math.max(last, ...(byStep ? steps : epochs).slice(-1));
    return { ...trace, x: byStep ? steps : epochs, customdata: byStep ? epochs : steps, y: values,
      mode: values.length > 1 ? "lines" : "markers",
      hovertemplate: `${trace.name}: %{y:.5~g}<br>${byStep
        ? "step %{x}, epoch %{customdata}" : "epoch %{x}, step %{customdata}"}<extra></extra>` };
  });
  return { data: traces, layout: { hovermode: "closest", showlegend: true, uirevision: metric,
    xaxis: { title: { text: byStep ? "step" : "epoch" }, zeroline: false, tickformat: "d",
      dtick: last <= 12 ? 1 : undefined },
    yaxis: { type: $("log").checked ? "log" : "linear", zeroline: false },
    legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", maxheight: 0.3 } } };
}
for (const name of single ? new Set(metrics.map(family)) : metrics)
  make("option", $("metric"), name);
if (data.metrics["val/psnr"]) $("metric").value = "val/psnr";
for (const most of [5, 20, 100, trials.length].filter(most => most <= trials.length))
  make("option", $("shown"), most < trials.length ? `best ${most}` : "all").value = most;
$("shown").value = Math.min(trials.length, 20);
$("shown").parentNode.hidden = trials.length <= 5;
if (metrics.length) {
  add("plot", curves);
  $("plot").on("plotly_click", event => { if (!single) pick(event.points[0].data.meta); });
  for (const id of ["metric", "over", "shown", "log"])
    $(id).onchange = () => { draw("plot"); mark(); };
} else $("plot").textContent = "No curves were logged.";
if (data.thinned) {
  $("thinned").hidden = false;
  $("thinned").textContent = `Thinned to ${data.thinned} points a curve; peaks are preserved.`;
}

// Parallel coordinates, importance, slices
function wide(parent, id, width, figure, layout) {  // scrolls sideways on a narrow screen
  const box = make("div", parent);
  box.id = id;
  box.style.minWidth = `${width}px`;
  add(id, () => ({ data: figure.data, layout: { ...figure.layout, ...layout } }));
}
$("parallel").hidden = $("importance").hidden = single;
if (data.parallel) {
  const margin = { l: 20, r: 20, t: 60, b: 20 };
  const width = 150 * data.parallel.layout.xaxis.tickvals.length;
  wide($("parallel").querySelector(".wide"), "axes", width, data.parallel,
    { margin, dragmode: "select" });
  $("axes").on("plotly_selected", event => select(event?.points));
  $("axes").on("plotly_deselect", () => select(null));
  $("axes").on("plotly_click", event => pick(event.points[0].data.meta));
}
$("reading").textContent = data.parallel
  ? "Each line is a run; warm colors are the best." + (touch ? "" : " Drag a box over an axis to "
    + "select the runs that pass through it; double-click to select all.")
  : data.keys.length ? "Fewer than two runs have a PSNR." : "No setting differs between the runs.";
$("why").textContent = data.importance.note;
data.importance.figures.forEach((figure, k) => {
  const [width, height] = k ? [200 * figure.data.length, 320]
    : [500, 90 + 30 * figure.data[0].y.length];
  wide($("importance").querySelector(".wide"), `importance${k}`, width, figure, { height });
});
