"use strict";
(() => {
  // Click or press a column's button to sort; the first click puts the better end on top.
  const table = document.querySelector("table.results");
  const body = table.tBodies[0];
  const heads = [...table.querySelectorAll("th[data-column]")];
  const value = (row, column) => row.cells[column].dataset.value;

  const sort = (head, descending) => {
    const column = Number(head.dataset.column);
    const sign = descending ? -1 : 1;
    const rows = [...body.rows].map((row) => [value(row, column), row]);
    rows.sort(([a], [b]) => {
      if (a === "" || b === "") return (a === "") - (b === "");  // no value: always last
      return column === 0 ? sign * a.localeCompare(b) : sign * (Number(a) - Number(b));
    });
    for (const [, row] of rows) body.append(row);
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  };

  for (const head of heads) {
    const higher = head.dataset.better === "1";
    head.querySelector("button").addEventListener("click", () => {
      const sorted = head.getAttribute("aria-sort");
      sort(head, sorted ? sorted === "ascending" : higher);
    });
  }
  if (table.dataset.ranked) sort(heads[1] ?? heads[0], (heads[1] ?? heads[0]).dataset.better === "1");
})();
