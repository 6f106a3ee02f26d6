// One number of a layer: what it sees of the image, and how it comes about.

import { enlarge, palette, picture } from "./colours.js";
import { make, number } from "./elements.js";

/** Fills `element` with what the server says of a unit; `view` has the image. */
export function showUnit(element, unit, view) {
  const parts = [];
  const patches = make("div", { className: "patches" });
  if (unit.field && unit.field.every(([first, last]) => last >= first)) {
    const [[top, bottom], [left, right]] = unit.field;
    const canvas = make("canvas", { role: "img", "aria-label": "The patch of the image that the unit sees" });
    view.crop(canvas, unit.field);
    const place = `sees rows ${top}–${bottom}, columns ${left}–${right}`;
    patches.append(make("figure", {}, canvas, make("figcaption", {}, `It ${place}`)));
  }
  const weights = unit.sum?.tables.find((table) => table.rows[0]?.[0]?.weight !== undefined);
  if (weights) {
    const canvas = make("canvas", { role: "img", "aria-label": `Weights, ${weights.caption}` });
    const values = weights.rows.flat().map((cell) => cell.weight ?? NaN);
    const finite = values.filter(Number.isFinite);
    enlarge(canvas, picture(values, weights.rows[0].length, palette(Math.min(...finite), Math.max(...finite), true)), 140);
    patches.append(make("figure", {}, canvas, make("figcaption", {}, `Weights, ${weights.caption}`)));
  }
  if (patches.children.length) parts.push(patches);
  if (unit.sum) parts.push(make("p", { className: "equation" }, unit.sum.text));
  if (unit.sum?.tables.length) parts.push(sumTables(unit.sum));
  if (!unit.sum) parts.push(make("p", { className: "hint" }, `What a ${unit.kind} computes is not written out.`));
  element.replaceChildren(...parts);
}

function sumTables(sum) {
  const box = make("div", { className: "sum", tabIndex: 0, role: "region", "aria-label": "The sum, term by term" });
  for (const table of sum.tables) {
    box.append(
      make(
        "table",
        {},
        make("caption", {}, table.caption),
        ...(table.head ? [make("thead", {}, make("tr", {}, ...table.head.map((text) => make("th", { scope: "col" }, text))))] : []),
        make("tbody", {}, ...table.rows.map((row) => make("tr", {}, ...row.map(cellOf)))),
      ),
    );
  }
  if (sum.rest) box.append(make("p", { className: "hint" }, sum.rest));
  return box;
}

function cellOf(cell) {
  if (typeof cell === "string") return make("td", {}, cell);
  // Padding of a maximum is minus infinity, which is no input.
  const input = cell.inside || cell.input !== null ? number(cell.input, 3) : "–";
  const element = make("td", {}, input);
  if (cell.weight !== undefined) element.append(make("small", {}, `× ${number(cell.weight, 3)}`));
  if (!cell.inside) {
    element.classList.add("outside");
    element.title = "padding";
  }
  if (cell.chosen) element.append(make("small", {}, "largest"));
  return element;
}
