// Curves of one metric of all runs, or of one run's stages
const single = trials.length === 1;
const family = name => name.replace(/^([^/]+\/[^_]+)_(degraded|stage\d)$/, "$1");
const metrics = [...new Set(trials.flatMap(t => Object.keys(t.curves)))].sort(names.compare);
const choices = single ? [...new Set(metrics.map(family))] : metrics;
const hidden = new Set();
let series = [], at = null;  // at: the point that is looked at, [series, point]

function points(curve) {  // [x, y, step, epoch]; over epochs the mean of each
  const [steps, epochs, values] = curve;
  if ($("over").value === "step") return steps.map((s, k) => [s, values[k], s, epochs[k]]);
  const found = new Map();
  epochs.forEach((epoch, k) => {
    const all = found.get(epoch) ?? found.set(epoch, []).get(epoch);
    all.push(k);
  });
  return [...found].map(([epoch, all]) => [epoch,
    all.reduce((sum, k) => sum + values[k], 0) / all.length, steps[all.at(-1)], epoch]);
}
function gather() {
  const chosen = $("metric").value;
  const list = single
    ? metrics.filter(name => family(name) === chosen).map((name, k) =>
        ({ key: name, name, colour: PALETTE[k % 10], curve: trials[0].curves[name] }))
    : trials.filter(t => t.curves[chosen]).map(t => ({ key: t.index, index: t.index, name: t.name,
        colour: colour(t), curve: t.curves[chosen], psnr: t.psnr }));
  series = list.map(s => ({ ...s, points: points(s.curve) })).filter(s => s.points.length);
}
const visible = () => series.filter(s => !hidden.has(s.key) && (single || isKept(s.index)));

let frame = null;  // how the plot maps values to pixels
function plot() {
  const box = $("plot"), width = box.clientWidth, height = innerWidth <= 700 ? 250 : 340;
  box.replaceChildren();
  at = null;
  $("point").textContent = "";
  const svg = draw("svg", box, { width, height, "aria-hidden": "true" });
  const drawn = visible(), all = drawn.flatMap(s => s.points);
  const log = $("log").checked && all.some(p => p[1] > 0);
  const usable = log ? all.filter(p => p[1] > 0) : all;
  if (!usable.length) {
    draw("text", svg, { x: width / 2, y: height / 2, "text-anchor": "middle" },
      series.length ? "nothing is chosen" : "no curves were logged");
    frame = null;
    return;
  }
  const put = log ? Math.log10 : v => v;
  const bounds = k => usable.reduce(([l, h], p) => [Math.min(l, p[k]), Math.max(h, p[k])],
    [Infinity, -Infinity]);
  let [left, right] = bounds(0), [low, high] = bounds(1).map(put);
  if (left === right) [left, right] = [left - 1, right + 1];
  const room = high > low ? (high - low) * 0.06 : Math.abs(high) * 0.1 || 1;
  [low, high] = [low - room, high + room];
  const margin = { left: 58, right: 14, top: 8, bottom: 26 };
  const x = v => margin.left + (v - left) / (right - left) * (width - margin.left - margin.right);
  const y = v => height - margin.bottom
    - (put(v) - low) / (high - low) * (height - margin.top - margin.bottom);
  const rows = log ? logTicks(10 ** low, 10 ** high, 6) : ticks(low, high, 6);
  for (const t of rows) {
    draw("line", svg, { class: "grid", x1: margin.left, x2: width - margin.right, y1: y(t), y2: y(t) });
    draw("text", svg, { x: margin.left - 8, y: y(t) + 4, "text-anchor": "end" }, format(t));
  }
  for (const t of ticks(left, right, width / 110).filter(Number.isInteger))
    draw("text", svg, { x: x(t), y: height - 6, "text-anchor": "middle" }, format(t));
  for (const s of drawn) {
    const kept = s.points.filter(p => !log || p[1] > 0);
    const path = kept.map((p, k) => `${k ? "L" : "M"}${x(p[0]).toFixed(1)} ${y(p[1]).toFixed(1)}`);
    s.line = draw("path", svg, { class: "line", d: path.join(""), stroke: s.colour });
    if (kept.length === 1)
      draw("circle", svg, { cx: x(kept[0][0]), cy: y(kept[0][1]), r: 3.5, fill: s.colour });
  }
  frame = { x, y, svg, width, drawn, log };
  highlight();
}
function highlight() {
  if (!frame) return;
  const chosen = at?.[0] ?? frame.drawn.find(s => !single && s.index === shared.picked);
  for (const s of frame.drawn) {
    s.line.classList.toggle("dim", chosen !== undefined && s !== chosen);
    s.line.classList.toggle("on", s === chosen);
  }
  if (chosen) chosen.line.parentNode.append(chosen.line);  // above the others
}
function look(s, k) {  // at a point
  at = [s, k];
  const p = s.points[k], [x, y] = [frame.x(p[0]), frame.y(p[1])];
  frame.svg.querySelector(".dot")?.remove();
  $("plot").querySelector(".tip")?.remove();
  highlight();
  draw("circle", frame.svg, { class: "dot", cx: x, cy: y, r: 5, fill: s.colour });
  const text = `${s.name}: ${format(p[1])} at epoch ${p[3]}, step ${p[2]}`;
  const tip = make("div", $("plot"), text);
  tip.className = "tip";
  tip.style.left = `${clamp(x + 12, 0, Math.max(frame.width - tip.offsetWidth - 4, 0))}px`;
  tip.style.top = `${Math.max(y - 36, 0)}px`;
  $("point").textContent = text;
}
function leave() {
  if (!frame || !at) return;
  at = null;
  frame.svg.querySelector(".dot")?.remove();
  $("plot").querySelector(".tip")?.remove();
  $("point").textContent = "";
  highlight();
}
$("plot").onpointermove = event => {
  if (!frame) return;
  const box = frame.svg.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  let best = [Infinity];
  for (const s of frame.drawn) s.points.forEach((p, k) => {
    if (frame.log && p[1] <= 0) return;
    const far = Math.hypot(frame.x(p[0]) - x, frame.y(p[1]) - y);
    if (far < best[0]) best = [far, s, k];
  });
  if (best[0] < 60) look(best[1], best[2]); else leave();
};
$("plot").onpointerleave = leave;
$("plot").onclick = () => { if (at && !single) pick(at[0].index); };
$("plot").onkeydown = event => {
  const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!by || !frame || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  const drawn = frame.drawn;
  if (!at) return look(drawn[0], 0);
  const s = drawn[(drawn.indexOf(at[0]) + by[1] + drawn.length) % drawn.length];
  const usable = s.points.map((p, k) => k).filter(k => !frame.log || s.points[k][1] > 0);
  if (!usable.length) return;
  const from = by[0] ? at[1] : Math.min(at[1], s.points.length - 1);
  const next = by[0] > 0 ? usable.find(k => k > from) : usable.findLast(k => k <= from + by[0]);
  look(s, next ?? (by[0] > 0 ? usable.at(-1) : usable[0]));
};
$("plot").onblur = leave;

function legend() {
  $("legend").replaceChildren();
  for (const s of series) {
    const button = make("button", $("legend"), s.name);
    button.style.setProperty("--own", s.colour);
    button.title = s.name;
    button.setAttribute("aria-pressed", !hidden.has(s.key));
    button.onclick = () => {
      if (!hidden.delete(s.key)) hidden.add(s.key);
      button.setAttribute("aria-pressed", !hidden.has(s.key));
      plot();
    };
  }
}
function choose(most) {  // show the best so many
  const order = [...series].sort((a, b) => (b.psnr ?? -Infinity) - (a.psnr ?? -Infinity));
  hidden.clear();
  for (const s of order.slice(most)) hidden.add(s.key);
  refresh();
}
function refresh() { gather(); legend(); plot(); }
for (const name of choices) make("option", $("metric"), name);
if (choices.includes("val/psnr")) $("metric").value = "val/psnr";
$("metric").onchange = $("over").onchange = refresh;
$("log").onchange = plot;
if (!single) for (const [label, most] of [["all", Infinity], ["best 5", 5], ["none", 0]])
  make("button", $("shown"), label).onclick = () => choose(most);
if (single) $("shown").hidden = true;
if (data.thinned) {
  $("thinned").hidden = false;
  $("thinned").textContent = `Thinned to ${data.thinned} points a curve, peaks kept.`;
}
shared.listeners.push(plot);
gather();
if (trials.length > 20) choose(20); else refresh();
addEventListener("resize", plot);
