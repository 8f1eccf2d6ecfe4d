"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const make = (tag, parent, text) => {
  const element = parent.appendChild(document.createElement(tag));
  if (text !== undefined) element.textContent = text;  // never as HTML
  return element;
};
const names = new Intl.Collator(undefined, { numeric: true });

// Table with one row per item. A click on a heading sorts the rows. Each column has a name, a
// function "of" that returns the value of an item, and optionally the flag "down" (descending
// first) and a title. With over 100 items, the table has pages and a field that filters the rows.
// "more" returns further text of an item for the filter; "kept" returns whether to show an item.
const PAGE = 100;
function sortable(table, items, columns, fill, { more = () => "", kept = () => true } = {}) {
  const order = items.map((_, k) => k), head = make("tr", table.tHead), texts = [];
  const bar = document.createElement("div"), field = make("input", bar);
  let sorted = {}, shown = order, first = 0;
  const text = k => texts[k] ??= [...columns.map(c => `${c.name}=${c.of(items[k]) ?? ""}`),
    more(items[k])].join(" ").toLowerCase();
  function test(word) {  // a comparison such as "psnr>30", or a text
    const found = /^(.+?)(>=|<=|>|<)(-?[\d.]+(?:e[-+]?\d+)?)$/.exec(word);
    const column = found && columns.find(c => c.name.toLowerCase() === found[1]);
    if (!column) return k => text(k).includes(word);
    const [sign, limit] = [found[2], Number(found[3])];
    return k => {
      const value = column.of(items[k]);
      return typeof value === "number" && (value === limit ? sign.length > 1
        : sign[0] === ">" ? value > limit : value < limit);
    };
  }
  function show() {
    const tests = field.value.toLowerCase().split(/\s+/).filter(Boolean).map(test);
    shown = order.filter(k => kept(k) && tests.every(passes => passes(k)));
    turn(0);
  }
  function turn(to) {  // to the page that starts with the row "to"
    first = Math.max(0, to);
    const rows = shown.slice(first, first + PAGE);
    table.tBodies[0].replaceChildren();
    for (const k of rows) {
      const row = make("tr", table.tBodies[0]);
      row.dataset.index = k;
      fill(row, k);
    }
    const [least, most, count] = [first + 1, first + rows.length, shown.length].map(
      n => n.toLocaleString("en"));
    where.textContent = rows.length ? `${least}\u2013${most} of ${count}` : "no rows";
    back.disabled = !first;
    next.disabled = first + PAGE >= shown.length;
  }
  function reveal(k) {  // turns to the page of an item
    const at = shown.indexOf(k);
    if (at >= 0 && (at < first || at >= first + PAGE)) turn(at - at % PAGE);
  }
  function compare(x, y) {  // missing values last, numbers before texts
    if (x === null || y === null) return (x === null) - (y === null);
    const [a, b] = [typeof x === "number", typeof y === "number"];
    const difference = a && b ? x - y : a !== b ? b - a : names.compare(String(x), String(y));
    return sorted.up ? difference : -difference;
  }
  function sort(column) {
    sorted = { column, up: sorted.column === column ? !sorted.up : !column.down };
    order.sort((p, q) => compare(...[p, q].map(k => column.of(items[k]) ?? null)));
    [...head.cells].forEach((header, k) => {
      const here = columns[k] === column;
      header.setAttribute("aria-sort", here ? (sorted.up ? "ascending" : "descending") : "none");
      header.querySelector("i").textContent = here ? (sorted.up ? " \u25b2" : " \u25bc") : "";
    });
    show();
  }
  for (const column of columns) {
    const header = make("th", head), button = make("button", header);
    for (const part of column.name.split(/(?<=[._])/)) {  // allows line breaks in long keys
      button.append(part);
      make("wbr", button);
    }
    make("i", button);
    button.onclick = () => sort(column);
    header.setAttribute("aria-sort", "none");
    header.title = column.title ?? "";
  }
  bar.className = "bar pages";
  bar.hidden = items.length <= PAGE;
  Object.assign(field, { type: "search", oninput: show, placeholder: "filter: text, PSNR>30" });
  field.setAttribute("aria-label", "filter the rows");
  const join = make("span", bar), where = make("span", bar);
  const [back, next] = [["previous", "\u2039", -PAGE], ["next", "\u203a", PAGE]].map(
    ([name, sign, by]) => {
      const button = make("button", join, sign);
      button.setAttribute("aria-label", `${name} page`);
      button.onclick = () => turn(first + by);
      return button;
    });
  join.className = "join";
  where.setAttribute("role", "status");
  table.parentNode.before(bar);
  return { order, show, sort, reveal };
}
