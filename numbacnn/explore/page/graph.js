// The layers, as a graph and as a table; clicking either chooses one.

import { byId, count, make, sizes } from "./elements.js";

/** What is in the table of a layer, without the axis of the batch. */
export function shapeOf(layer) {
  const several = Array.isArray(layer.shape[0]);
  return several ? layer.shape.map((shape) => sizes(shape.slice(1))).join(", ") : sizes(layer.shape.slice(1)) || "1";
}

/** Fills graph and table of `model`; `choose` gets the name of a layer. Gives a function that marks one. */
export function showLayers(model, svg, choose) {
  const nodes = showGraph(svg, choose);
  const rows = showTable(model, choose);
  const [whole] = model.layers;
  byId("totals").textContent = `${count(whole.parameters)} parameters, ${count(whole.multiply_adds)} multiply-adds`;
  return (name) => {
    for (const [marked, elements] of [[nodes, "node"], [rows, "row"]]) {
      for (const [other, element] of marked) {
        element.classList.toggle("selected", other === name);
        const pressed = elements === "node" ? element : element.querySelector("button");
        pressed.setAttribute("aria-pressed", String(other === name));
      }
    }
    // Only the list moves: scrollIntoView would move the page as well.
    for (const element of [nodes.get(name), rows.get(name)]) reveal(element);
  };
}

function reveal(element) {
  const list = element?.closest(".scrolled");
  if (!list) return;
  const inner = element.getBoundingClientRect();
  const outer = list.getBoundingClientRect();
  // Of a row of the table the first column says which it is, wherever the others are.
  const sideways = !element.matches("tr") && (inner.left < outer.left || inner.right > outer.right);
  if (sideways) list.scrollLeft += (inner.left + inner.right - outer.left - outer.right) / 2;
  if (inner.top >= outer.top + 30 && inner.bottom <= outer.bottom) return;
  list.scrollTop += (inner.top + inner.bottom - outer.top - outer.bottom) / 2;
}

function showGraph(svg, choose) {
  // The page has colours of its own, for light and dark, and its security policy allows no others.
  const plain = svg.replace(/<style>.*?<\/style>/s, "").replace(/^(<svg[^>]*) style="[^"]*"/, "$1");
  const root = new DOMParser().parseFromString(plain, "image/svg+xml").documentElement;
  // It is made smaller to fit, as far as it can still be read.
  const width = Number(root.getAttribute("width"));
  root.style.maxWidth = `${width}px`;
  root.style.minWidth = `${0.8 * width}px`;
  const nodes = new Map();
  for (const node of root.querySelectorAll(".node[data-layer]")) {
    const name = node.dataset.layer;
    nodes.set(name, node);
    node.setAttribute("role", "button");
    node.setAttribute("tabindex", nodes.size === 1 ? 0 : -1);
    node.addEventListener("click", () => choose(name));
  }
  // One stop of the Tab key for all of them; arrows go on from there.
  root.addEventListener("keydown", (event) => {
    const all = [...nodes.values()];
    const at = all.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (step !== undefined) focusOn(all, Math.min(Math.max(at + step, 0), all.length - 1));
    else if (event.key === "Home") focusOn(all, 0);
    else if (event.key === "End") focusOn(all, all.length - 1);
    else if (event.key === "Enter" || event.key === " ") choose(all[at].dataset.layer);
    else return;
    event.preventDefault();
  });
  root.setAttribute("role", "group");
  byId("graph").replaceChildren(document.adoptNode(root));
  return nodes;
}

function focusOn(all, at) {
  for (const element of all) element.setAttribute("tabindex", -1);
  all[at].setAttribute("tabindex", 0);
  all[at].focus({ preventScroll: true });
  reveal(all[at]);
}

function showTable(model, choose) {
  const rows = new Map();
  const body = byId("table").tBodies[0];
  for (const layer of model.layers) {
    const name = layer.name;
    const button = make(
      "button",
      { type: "button", title: layer.detail, onclick: () => choose(name), "aria-pressed": "false" },
      make("b", {}, name),
      name ? ` ${layer.kind}` : "whole model",
    );
    const row = make(
      "tr",
      {},
      make("td", {}, button),
      make("td", {}, shapeOf(layer)),
      make("td", {}, count(layer.parameters)),
      make("td", {}, layer.field ? sizes(layer.field) : ""),
      make("td", {}, count(layer.multiply_adds)),
    );
    rows.set(name, row);
    body.append(row);
  }
  return rows;
}
