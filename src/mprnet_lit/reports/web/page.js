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
// first) and a title.
function sortable(table, items, columns, fill) {
  const order = items.map((_, k) => k), head = make("tr", table.tHead);
  let sorted = {};
  function show() {
    table.tBodies[0].replaceChildren();
    for (const k of order) {
      const row = make("tr", table.tBodies[0]);
      row.dataset.index = k;
      fill(row, k);
    }
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
  return { order, show, sort };
}
