"use strict";
// Without scripts a page has all its text and tables: they add pictures, sorting and a filter.

function value(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.sort ?? cell.textContent.trim();
  return text !== "" && isFinite(text) ? Number(text) : text;
}

// Numbers before texts, and what is unknown last, in both directions.
function order(a, b, direction) {
  if (a === "" || b === "") return (a === "") - (b === "");
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  const found = typeof a === "number" ? a - b : a.localeCompare(b);
  return direction * found;
}

function sort(table, column, head) {
  const ascending = head.getAttribute("aria-sort") !== "ascending";
  const body = table.tBodies[0];
  const rows = Array.from(body.rows).map((row) => [value(row, column), row]);
  rows.sort((a, b) => order(a[0], b[0], ascending ? 1 : -1));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  for (const [, row] of rows) body.append(row);
}

function sortable(table) {
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(table, column, head));
    head.append(button);
  });
}

function filter(form) {
  const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = Array.from(form.querySelectorAll("select")).filter((one) => one.value);
  let shown = 0, total = 0;
  for (const section of document.querySelectorAll(".category")) {
    for (const group of section.querySelectorAll(".group")) {
      let some = 0;
      for (const row of group.querySelectorAll("tbody tr")) {
        const text = row.textContent.toLowerCase();
        const fits = words.every((word) => text.includes(word)) &&
          chosen.every((one) => row.dataset[one.name] === one.value) &&
          (!form.elements.verified?.checked || row.dataset.verified === "yes");
        row.hidden = !fits;
        some += fits;
        total += 1;
      }
      group.hidden = some === 0;
      shown += some;
    }
    const asked = words.length || chosen.length || form.elements.verified?.checked;
    section.hidden = Boolean(asked) && !section.querySelector(".group:not([hidden])");
  }
  document.getElementById("shown").textContent = `${shown} of ${total} ${form.dataset.what}`;
}

// Texts of a specification are data, and expressions are interpreted, never compiled.
async function draw(figure, spec) {
  const options = { ast: true, renderer: "none", actions: false, defaultStyle: false,
    tooltip: false };
  delete spec.$schema;
  const made = await vegaEmbed(document.createElement("div"), spec, options);
  const text = await made.view.toSVG();
  made.finalize();
  const svg = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  // One image with one name: its parts are nothing to a reader of their own.
  for (const part of svg.querySelectorAll("*"))
    for (const name of part.getAttributeNames())
      if (name === "role" || name.startsWith("aria-")) part.removeAttribute(name);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", figure.dataset.label);
  svg.setAttribute("class", "light");
  figure.append(document.importNode(svg, true));
  figure.classList.add("drawn");
}

function overlay(figure) {
  const spec = JSON.parse(document.getElementById("overlay").textContent);
  const lines = [], bands = [];
  for (const [name, key] of [["this entry", "one"], ["the other", "other"]]) {
    const curve = curves[figure.dataset[key]];
    curve.x.forEach((x, i) => {
      lines.push({ g: name, x, y: curve.y[i] });
      if (curve.low.length) bands.push({ g: name, x, low: curve.low[i], high: curve.high[i] });
    });
  }
  spec.datasets = { ...spec.datasets, lines, bands };
  return draw(figure, spec);
}

const pictures = new IntersectionObserver((found) => {
  for (const { isIntersecting, target } of found) {
    if (!isIntersecting) continue;
    pictures.unobserve(target);
    if (target.matches(".overlay")) overlay(target);
    else draw(target, JSON.parse(target.querySelector("script").textContent));
  }
}, { rootMargin: "600px" });
document.querySelectorAll("figure.picture, figure.overlay").forEach((one) => pictures.observe(one));

document.querySelectorAll("table.sortable").forEach(sortable);
const form = document.getElementById("filter");
if (form) {
  form.hidden = false;
  form.addEventListener("input", () => filter(form));
  form.addEventListener("submit", (event) => event.preventDefault());
  filter(form);
}
