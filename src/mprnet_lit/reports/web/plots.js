// What all plots share.
const draw = (tag, parent, attributes, text) => {
  const element = parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", tag));
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
};
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const names = new Intl.Collator(undefined, { numeric: true });
const trials = data.trials;
trials.forEach((trial, k) => { trial.index = k; });
const ranked = trials.filter(t => t.psnr !== null).sort((a, b) => b.psnr - a.psnr);

function format(value) {  // a number as short as it can be told apart
  if (typeof value !== "number") return value === null ? "\u2013" : String(value);
  if (value === 0 || Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  const size = Math.abs(value);
  return size < 1e-3 || size >= 1e6 ? value.toExponential(2).replace(/\.?0+e/, "e")
                                    : String(Number(value.toPrecision(4)));
}
function ticks(low, high, most) {  // round numbers between two others
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(k => k * power).find(s => s >= rough) ?? 10 * power;
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++)
    found.push(Number((k * step).toPrecision(12)));
  return found;
}
function logTicks(low, high, most) {
  const found = [], from = Math.floor(Math.log10(low)), to = Math.ceil(Math.log10(high));
  const every = Math.ceil((to - from + 1) / most);
  const steps = to - from <= 1 ? [1, 2, 5] : to - from <= 2 ? [1, 3] : [1];
  for (let power = from; power <= to; power += every)
    for (const k of steps) found.push(Number(`${k}e${power}`));
  return found.filter(t => t >= low * 0.999 && t <= high * 1.001);
}

// Colours: few runs one each, many by their PSNR
const PALETTE = ["#3b82f6", "#f08c2e", "#10a37f", "#e0527a", "#8b5cf6", "#b98a12", "#14a8c4",
  "#c2588f", "#7d9b1f", "#8a8f9c"];
const RAMP = [[122, 92, 214], [38, 139, 210], [32, 170, 140], [150, 176, 40], [236, 152, 20]];
const [lowest, highest] = ranked.length ? [ranked.at(-1).psnr, ranked[0].psnr] : [0, 0];
function byPsnr(psnr) {
  if (psnr === null) return "#8a8f9c";
  // By rank, half: one bad run must not leave all the others alike.
  const share = highest > lowest ? (psnr - lowest) / (highest - lowest) : 1;
  const rank = ranked.length > 1
    ? 1 - ranked.findIndex(t => t.psnr === psnr) / (ranked.length - 1) : 1;
  const at = (share + rank) / 2 * (RAMP.length - 1), k = Math.min(Math.floor(at), RAMP.length - 2);
  return `rgb(${RAMP[k].map((c, i) => Math.round(c + (RAMP[k + 1][i] - c) * (at - k)))})`;
}
const colour = trial =>
  trials.length <= PALETTE.length ? PALETTE[trial.index] : byPsnr(trial.psnr);

// What is picked out and what is brushed away, in all plots and the table alike
const shared = { picked: null, kept: null, listeners: [] };
function tell() { for (const listener of shared.listeners) listener(); }
function pick(index) {
  shared.picked = shared.picked === index ? null : index;
  tell();
}
const isKept = index => shared.kept === null || shared.kept.has(index);
