"use strict";

// Without this script a page shows the same tables and pictures; it adds sorting, zooming and hiding of classes.

const NUMBER = /^[+-]?[\d,]*\.?\d+/;

function number(text) {
  return NUMBER.test(text) ? parseFloat(text.replaceAll(",", "")) : NaN;
}

function onActivation(element, action) {
  element.tabIndex = 0;
  element.addEventListener("click", action);
  element.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      action(event);
    }
  });
}

// Rows without a value, such as n/a, stay last in both directions; equal ones keep their order.
function sortBy(table, heading) {
  const ascending = heading.getAttribute("aria-sort") !== "ascending";
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => ({ row, text: row.cells[heading.cellIndex].textContent.trim() }));
  const empty = ({ text }) => text === "" || text === "n/a";
  const numeric = keyed.every((entry) => empty(entry) || NUMBER.test(entry.text));
  keyed.sort((one, other) => {
    if (empty(one) || empty(other)) return empty(one) - empty(other);
    const order = numeric ? number(one.text) - number(other.text) : one.text.localeCompare(other.text);
    return ascending ? order : -order;
  });
  body.append(...keyed.map((entry) => entry.row));
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
}

function zoom(picture) {
  const dialog = document.createElement("dialog");
  const close = document.createElement("button");
  const large = document.createElement("img");
  dialog.className = "zoom";
  close.textContent = "Close";
  [large.src, large.alt] = [picture.src, picture.alt];
  close.addEventListener("click", () => dialog.close());
  large.addEventListener("click", () => {
    // A picture that fits the window is shown at twice its size, a larger one pixel by pixel.
    const fits = large.naturalWidth <= dialog.clientWidth && large.naturalHeight <= dialog.clientHeight;
    large.style.width = large.classList.toggle("whole") && fits ? `${2 * large.naturalWidth}px` : "";
  });
  dialog.addEventListener("close", () => dialog.remove());
  dialog.append(close, large);
  document.body.append(dialog);
  dialog.showModal();
}

// Buttons above the first table of classes, which hide the rows of a class in all of them.
function addToggles(tables) {
  const rows = tables.flatMap((table) => [...table.tBodies[0].rows]);
  const names = [...new Set(rows.map((row) => row.cells[0].textContent))];
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  details.className = "toggles";
  summary.textContent = "Show or hide classes";
  details.append(summary);
  for (const name of names) {
    const button = document.createElement("button");
    button.textContent = name;
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(shown));
      for (const row of rows) if (row.cells[0].textContent === name) row.classList.toggle("off", !shown);
    });
    details.append(button);
  }
  tables[0].parentElement.before(details);
}

const headed = [...document.querySelectorAll("table")].filter((table) => table.tHead);
for (const table of headed.filter((table) => table.tBodies[0].rows.length > 1)) {
  for (const heading of table.tHead.rows[0].cells) {
    heading.classList.add("sortable");
    heading.title = "Sort by this column";
    onActivation(heading, () => sortBy(table, heading));
  }
}
for (const picture of document.querySelectorAll("img")) {
  picture.classList.add("zoomable");
  onActivation(picture, () => zoom(picture));
}
const ofClasses = headed.filter((table) => table.tHead.rows[0].cells[0].textContent === "class");
if (ofClasses.length) addToggles(ofClasses);
