// The chosen layer: its feature maps, its filters, one of its units.

import { get, getNumbers, newestWins } from "./api.js";
import { enlarge, legend, onThemeChange, palette, picture } from "./colours.js";
import { byId, make, number, pager, sizes } from "./elements.js";
import { shapeOf } from "./graph.js";
import { showUnit } from "./unit.js";

const SIDE = 320;
const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

export class LayerView {
  constructor(model, view, failed) {
    this.layers = new Map(model.layers.map((layer) => [layer.name, layer]));
    this.view = view;
    this.layer = null;
    this.picture = null;
    this.maps = null;
    this.map = 0; // of the whole layer
    this.unit = null; // [row, column] in the map
    // What is wrong with a picture that gave way to another meanwhile is of no account.
    const safely = (work) =>
      newestWins(() => {
        const { picture } = this;
        return work().catch((error) => picture === this.picture && failed(error));
      });
    this.loadMaps = safely(() => this.fetchMaps());
    this.loadFilters = safely(() => this.fetchFilters());
    this.loadUnit = safely(() => this.fetchUnit());
    this.first = 0;
    this.firstFilter = 0;
    const canvas = byId("map");
    canvas.addEventListener("click", (event) => this.selectUnit(this.placeOf(event)));
    canvas.addEventListener("pointermove", (event) => this.tell(this.placeOf(event)));
    canvas.addEventListener("pointerleave", () => this.tell(this.unit));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("focus", () => byId("readout").setAttribute("aria-live", "polite"));
    canvas.addEventListener("blur", () => byId("readout").removeAttribute("aria-live"));
    onThemeChange(() => {
      this.drawMaps();
      this.drawFilters();
      if (this.unit) this.loadUnit();
    });
  }

  /** Shows a layer, by its name. */
  choose(name) {
    this.layer = this.layers.get(name);
    this.first = this.firstFilter = this.map = 0;
    this.unit = this.maps = this.filters = null;
    byId("unit").replaceChildren();
    this.view.showField(null);
    byId("layer-heading").textContent = `${name ? `Layer ${name}` : "The model"}: ${this.layer.kind}`;
    byId("layer-shape").textContent = [this.layer.detail, `gives ${shapeOf(this.layer)}`].filter(Boolean).join(", ");
    this.loadMaps();
    byId("filters-part").hidden = !this.layer.filters;
    if (this.layer.filters) this.loadFilters();
  }

  /** Another picture, or null: what is shown stays the same of it. */
  show(number) {
    this.picture = number;
    if (this.layer) this.loadMaps();
  }

  async fetchMaps() {
    const { layer, picture: shown, first } = this;
    const hint = byId("layer-hint");
    document.querySelector(".looking").hidden = shown === null;
    hint.textContent = shown === null ? "Draw something, or choose a sample, to see what the layer makes of it." : "";
    hint.hidden = shown !== null;
    if (shown === null) return;
    const maps = await getNumbers("outputs", { picture: shown, layer: layer.name, first });
    if (layer !== this.layer || first !== this.first) return;
    this.maps = maps;
    this.width = maps.of.length > 1 ? maps.shape[2] : columnsOf(maps.shape[2]);
    this.drawMaps();
    if (this.unit) this.loadUnit();
  }

  async fetchFilters() {
    const { layer, map, firstFilter } = this;
    const filters = await getNumbers("filters", { layer: layer.name, map, first: firstFilter });
    if (layer !== this.layer) return;
    this.filters = filters;
    this.drawFilters();
  }

  async fetchUnit() {
    const { layer, unit, map } = this;
    if (!unit || this.picture === null) return;
    const position = this.positionOf(map, unit);
    const found = await get("unit", { picture: this.picture, layer: layer.name, position });
    if (layer !== this.layer || map !== this.map || unit !== this.unit) return;
    this.view.showField(found.field);
    showUnit(byId("unit"), found, this.view);
  }

  /** Numbers of a map that is among those at hand. */
  values(map) {
    const each = this.maps.values.length / this.maps.shape[0];
    const at = (map - this.maps.first) * each;
    return this.maps.values.subarray(at, at + each);
  }

  drawMaps() {
    if (!this.maps) return;
    const { first, most, shape, count: total, low, high, of } = this.maps;
    const colours = palette(low ?? 0, high ?? 0);
    if (this.map < first || this.map >= first + shape[0]) this.map = first;
    byId("maps-heading").textContent = of.length > 2 ? `${total} feature maps of ${sizes(of.slice(-2))}` : `${sizes(of)} numbers`;
    const tiles = byId("maps");
    tiles.hidden = total === 1;
    tiles.classList.toggle("few", shape[0] <= 8);
    while (tiles.children.length > shape[0]) tiles.lastChild.remove();
    for (let i = 0; i < shape[0]; i++) {
      const tile = tiles.children[i] ?? tiles.appendChild(this.newTile(i));
      enlarge(tile.firstChild, picture(this.values(first + i), this.width, colours));
      tile.lastChild.textContent = String(first + i);
      tile.setAttribute("aria-label", `Map ${first + i}`);
      tile.setAttribute("aria-pressed", String(first + i === this.map));
    }
    legend(byId("legend"), colours, number);
    pager(byId("maps-pager"), "maps", { first, most, shown: shape[0], total }, (to) => {
      this.first = this.map = to;
      this.unit = null;
      byId("unit").replaceChildren();
      this.view.showField(null);
      this.loadMaps();
      if (this.layer.filters) this.restartFilters();
    });
    this.drawMap(colours);
  }

  newTile(i) {
    const tile = make("button", { type: "button" }, make("canvas", { "aria-hidden": "true" }), make("span"));
    tile.addEventListener("click", (event) => {
      this.selectMap(this.maps.first + i);
      // The place that was clicked; keys have none.
      if (event.target === tile.firstChild && event.detail) this.selectUnit(this.placeOf(event));
    });
    return tile;
  }

  selectMap(map) {
    if (map === this.map) return;
    this.map = map;
    this.drawMaps();
    if (this.unit) this.loadUnit();
    if (this.layer.filters) this.restartFilters();
  }

  restartFilters() {
    this.firstFilter = 0;
    this.loadFilters();
  }

  drawMap(colours) {
    const values = this.values(this.map);
    const small = picture(values, this.width, colours);
    const canvas = byId("map");
    const { context, scale } = enlarge(canvas, small, SIDE);
    byId("map-heading").textContent = this.maps.of.length > 2 ? `Map ${this.map}` : "Units";
    if (this.unit) {
      const [row, column] = this.unit;
      for (const [width, colour] of [[5, "#000"], [2, "#ff9a3c"]]) {
        context.lineWidth = width;
        context.strokeStyle = colour;
        context.strokeRect(column * scale + 1, row * scale + 1, Math.max(scale - 2, 2), Math.max(scale - 2, 2));
      }
    }
    this.tell(this.unit);
  }

  drawFilters() {
    if (!this.filters || !this.layer?.filters) return;
    const { first, most, shape, count: total, low, high } = this.filters;
    const colours = palette(low ?? 0, high ?? 0, true);
    byId("filters-heading").textContent =
      total === 1 ? `Filter of map ${this.map}` : `Filter of map ${this.map}: a kernel for each of ${total} maps that it reads`;
    const tiles = byId("filters");
    const each = shape[1] * shape[2];
    tiles.replaceChildren(
      ...Array.from({ length: shape[0] }, (_, i) => {
        const canvas = make("canvas", { role: "img", "aria-label": `Kernel for map ${first + i}` });
        enlarge(canvas, picture(this.filters.values.subarray(i * each, (i + 1) * each), shape[2], colours));
        return make("figure", {}, canvas, make("span", {}, String(first + i)));
      }),
    );
    legend(byId("filters-legend"), colours, number);
    pager(byId("filters-pager"), "kernels", { first, most, shown: shape[0], total }, (to) => {
      this.firstFilter = to;
      this.loadFilters();
    });
  }

  /** Row and column of what is under the pointer, or null. */
  placeOf(event) {
    const box = event.target.getBoundingClientRect();
    const height = this.values(this.map).length / this.width;
    const column = Math.floor(((event.clientX - box.left) / box.width) * this.width);
    const row = Math.floor(((event.clientY - box.top) / box.height) * Math.ceil(height));
    return this.isThere([row, column]) ? [row, column] : null;
  }

  isThere([row, column]) {
    const index = row * this.width + column;
    return row >= 0 && column >= 0 && column < this.width && index < this.values(this.map).length;
  }

  selectUnit(place) {
    if (!place) return;
    this.unit = place;
    this.drawMaps();
    this.loadUnit();
  }

  tell(place) {
    const readout = byId("readout");
    if (!place || !this.maps || !this.isThere(place)) {
      readout.textContent = "";
      return;
    }
    const [row, column] = place;
    const index = row * this.width + column;
    const where = this.maps.of.length > 1 ? `row ${row}, column ${column}` : `unit ${index}`;
    readout.textContent = `${where}: ${number(this.values(this.map)[index])}`;
  }

  key(event) {
    const step = STEPS[event.key];
    if (!step || !this.maps || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const to = this.unit ? [this.unit[0] + step[0], this.unit[1] + step[1]] : [0, 0];
    if (this.isThere(to)) this.selectUnit(to);
  }

  /** Where a unit is in the layer's output. */
  positionOf(map, [row, column]) {
    const { of } = this.maps;
    if (of.length === 1) return String(row * this.width + column);
    const leading = [];
    let rest = map;
    for (const size of of.slice(0, -2).reverse()) {
      leading.unshift(rest % size);
      rest = Math.floor(rest / size);
    }
    return [...leading, row, column].join(",");
  }
}

/** In how many columns a vector is shown: a divisor that makes it about square, if there is one. */
function columnsOf(length) {
  if (length <= 12) return length;
  const least = Math.ceil(Math.sqrt(length));
  for (let columns = least; columns <= 2 * least; columns++) if (length % columns === 0) return columns;
  return least;
}
