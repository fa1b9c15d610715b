"use strict";
// Tables sort by the column whose heading is chosen: figures as numbers, undefined ones last. Pictures enlarge in a dialog.
const figure = text => {
  const found = text.trim().replaceAll(",", "").replace("\u2212", "-").match(/^[+-]?\d+(?::\d\d|\.\d+)?(?=\s|%|$)/);
  if (!found) return null;
  const [minutes, seconds] = found[0].split(":");
  return seconds === undefined ? Number(minutes) : 60 * Number(minutes) + Number(seconds);
};
const compare = (a, b) => {
  const [x, y] = [figure(a), figure(b)];
  if (x !== null && y !== null) return x - y;
  if (x === null && y === null) return a.localeCompare(b, "en", { numeric: true });
  return x === null ? Infinity : -Infinity;
};
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const way = head.ariaSort === "descending" ? 1 : -1;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.ariaSort = way === 1 ? "ascending" : "descending";
      const rows = [...table.tBodies[0].rows].map(row => [row.cells[column].textContent, row]);
      rows.sort(([a], [b]) => { const order = compare(a, b); return Number.isFinite(order) ? way * order : order; });
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}
const dialog = document.querySelector("dialog.enlarged");
for (const button of document.querySelectorAll(".enlarge"))
  button.addEventListener("click", () => {
    const [small, large] = [button.querySelector("img"), dialog.querySelector("img")];
    [large.src, large.alt] = [small.src, small.alt];
    dialog.showModal();
  });
dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
