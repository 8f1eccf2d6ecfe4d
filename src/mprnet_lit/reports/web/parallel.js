// Parallel coordinates: a run is a line over its settings, coloured by its PSNR
const axes = [...data.keys.map((key, k) => ({ ...key, of: t => t.settings[k] })),
              { name: "PSNR", scale: "linear", of: t => t.psnr }];
const brushes = new Map();  // axis to [top, bottom] in pixels
const TOP = 44, HIGH = 260, DEEP = TOP + HIGH + 22;

for (const axis of axes) {
  const values = trials.map(axis.of).filter(v => v !== null);
  if (axis.scale === "categories") {
    const known = [...new Set(trials.map(t => format(axis.of(t))))].sort(names.compare);
    axis.ticks = known;
    axis.y = v => TOP + HIGH - (known.length > 1
      ? known.indexOf(format(v)) / (known.length - 1) : 0.5) * HIGH;
    continue;
  }
  const put = axis.scale === "log" ? Math.log10 : v => v;
  let [low, high] = [Math.min(...values), Math.max(...values)].map(put);
  if (low === high) [low, high] = [low - 1, high + 1];
  const distinct = [...new Set(values)].sort((a, b) => a - b);
  axis.ticks = distinct.length <= 5 && axis.name !== "PSNR" ? distinct
    : axis.scale === "log" ? logTicks(10 ** low, 10 ** high, 6) : ticks(low, high, 5);
  axis.y = v => v === null ? null : TOP + HIGH - (put(v) - low) / (high - low) * HIGH;
}
const marks = new Map();  // run to its line

function brushed() {  // which runs every brush holds
  if (!brushes.size) return null;
  const inside = t => [...brushes].every(([axis, [top, bottom]]) => {
    const y = axis.y(axis.of(t));
    return y !== null && y >= top - 1 && y <= bottom + 1;
  });
  return new Set(trials.filter(inside).map(t => t.index));
}
function brush(axis, range) {
  if (range) brushes.set(axis, range); else brushes.delete(axis);
  shared.kept = brushed();
  $("clear").hidden = !brushes.size;
  tell();
}
function parallel() {
  $("axes").replaceChildren();
  marks.clear();
  const width = Math.max($("axes").clientWidth, 110 * axes.length);
  const svg = draw("svg", $("axes"), { width, height: DEEP, role: "img",
    "aria-label": "parallel coordinates of the settings and the PSNR; the table has the same" });
  const gap = (width - 150) / (axes.length - 1), x = k => 62 + k * gap;
  const lines = draw("g", svg, {});
  const worstFirst = [...trials].sort((a, b) => (a.psnr ?? -Infinity) - (b.psnr ?? -Infinity));
  for (const t of worstFirst) {
    const path = axes.map((axis, k) => [x(k), axis.y(axis.of(t))]).filter(p => p[1] !== null);
    const line = draw("path", lines, { stroke: byPsnr(t.psnr),
      d: path.map(([px, py], k) => `${k ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("") });
    draw("title", line, {}, `${t.name}: ${t.psnr === null ? t.state : `${format(t.psnr)} dB`}`);
    line.setAttribute("class", t.psnr === null ? "line none" : "line");
    line.onclick = () => pick(t.index);
    marks.set(t.index, line);
  }
  axes.forEach((axis, k) => {
    const group = draw("g", svg, { transform: `translate(${x(k)} 0)` });
    draw("line", group, { class: "axis", x1: 0, x2: 0, y1: TOP, y2: TOP + HIGH });
    const short = fit(axis.name, gap);
    const name = draw("text", group, { class: "name", y: k % 2 && gap < 130 ? 12 : 28,
      "text-anchor": "middle" }, short);
    draw("title", name, {}, axis.name + (axis.scale === "log" ? " (log scale)" : ""));
    const every = Math.ceil(axis.ticks.length / 14);
    let last = Infinity;
    axis.ticks.forEach((t, i) => {
      if (i % every || Math.abs(last - axis.y(t)) < 14) return;
      last = axis.y(t);
      draw("line", group, { class: "axis", x1: -4, x2: 0, y1: axis.y(t), y2: axis.y(t) });
      const label = draw("text", group, { x: 7, y: axis.y(t) + 4 }, fit(format(t), gap));
      draw("title", label, {}, format(t));
    });
    const mark = draw("rect", group, { class: "brush", x: -9, width: 18, y: 0, height: 0 });
    const show = range => {
      mark.setAttribute("y", range ? range[0] : 0);
      mark.setAttribute("height", range ? range[1] - range[0] : 0);
    };
    show(brushes.get(axis));
    const hit = draw("rect", group, { class: "hit", x: -12, width: 24, y: TOP - 8, height: HIGH + 16 });
    let from = null;
    const place = event => clamp(event.clientY - svg.getBoundingClientRect().top, TOP - 8,
      TOP + HIGH + 8);
    hit.onpointerdown = event => {
      if (event.button !== 0) return;
      event.preventDefault();
      hit.setPointerCapture(event.pointerId);
      from = place(event);
    };
    hit.onpointermove = event => {
      if (from === null) return;
      const to = place(event), range = [Math.min(from, to), Math.max(from, to)];
      show(range);
      if (range[1] - range[0] > 4) brush(axis, range);
    };
    hit.onpointerup = event => {
      if (from !== null && Math.abs(place(event) - from) <= 4) { show(null); brush(axis, null); }
      from = null;
    };
    hit.onpointercancel = () => { from = null; };
  });
  mark();
}
const fit = (text, gap) => {
  const most = Math.max(Math.floor(gap / 7.5) - 1, 8);
  return text.length <= most ? text : `\u2026${text.slice(1 - most)}`;
};
function mark() {
  for (const [index, line] of marks) {
    const away = !isKept(index) || shared.picked !== null && shared.picked !== index;
    line.classList.toggle("dim", away);
    line.classList.toggle("on", shared.picked === index);
  }
  if (marks.has(shared.picked)) marks.get(shared.picked).parentNode.append(marks.get(shared.picked));
}
if (data.keys.length && ranked.length > 1) {
  $("brushing").textContent = "Each line is a run, warm colours the best. Drag along an axis to "
    + "keep only the runs that pass there; click it to let go.";
  $("clear").onclick = () => {
    brushes.clear();
    shared.kept = null;
    $("clear").hidden = true;
    parallel();
    tell();
  };
  shared.listeners.push(mark);
  parallel();
  addEventListener("resize", parallel);
} else if (single) $("parallel").hidden = true;
else $("brushing").textContent = data.keys.length
  ? "Fewer than two runs have a PSNR." : "No setting differs between the runs.";
