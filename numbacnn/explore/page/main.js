// What belongs together: an image comes in, the model says what it is, the chosen layer what it made of it.

import { get, getText, newestWins, post, Refused } from "./api.js";
import { fillTargets, showClasses } from "./classes.js";
import { byId, count, make, say, sizes } from "./elements.js";
import { showLayers } from "./graph.js";
import { LayerView } from "./layer.js";
import { Pad } from "./pad.js";
import { View } from "./view.js";

// What the user asked for is numbered: a message stays until something works that was asked for after what it is about.
let asked = 0;
let told = 0;
const ask = () => (asked += 1);

function failed(error, number = asked) {
  if (!(error instanceof Refused)) console.error(error);
  told = number;
  say(byId("alert"), error.message);
}

const works = (number) => number > told && say(byId("alert"), "");

async function begin() {
  const [model, svg] = await Promise.all([get("model"), getText("graph")]);
  byId("title").textContent = model.title;
  byId("note").textContent = model.note;
  byId("note").classList.toggle("warning", !model.is_trained);
  document.title = `${model.title} – numbacnn explore`;
  byId("centre").checked = model.centres;
  byId("centre-label").hidden = !model.centres;

  const view = new View(byId("view"));
  const layerView = new LayerView(model, view, failed);
  const mark = showLayers(model, svg, choose);
  let answer = null;

  function choose(name) {
    mark(name);
    layerView.choose(name);
  }

  const heat = newestWins(() => {
    const chosen = byId("cam-class").value;
    const target = byId("cam").checked && answer ? (chosen === "first" ? answer.first : Number(chosen)) : null;
    const { number } = view;
    return view.showHeat(target).catch((error) => number === view.number && failed(error));
  });

  /** An answer of the server to an image that was the `number`th thing asked for. */
  async function show(found, number) {
    works(number);
    answer = found;
    showClasses(found, model.is_trained);
    await view.show(found.picture, byId("first").textContent);
    layerView.show(found.picture);
    if (byId("cam").checked) heat();
  }

  function showNothing() {
    answer = null;
    showClasses(null);
    view.clear();
    layerView.show(null);
  }

  const pad = new Pad(byId("pad"), byId("brush"), () => classify(ask()));
  const classify = newestWins(async (number) => {
    if (pad.isEmpty) return showNothing();
    try {
      const values = { size: pad.canvas.width, centre: byId("centre").checked ? 1 : 0 };
      const found = await post("drawing", values, pad.bytes());
      if (!pad.isEmpty && isDrawing()) await show(found, number);
    } catch (error) {
      failed(error, number);
    }
  });

  const isDrawing = () => document.querySelector("input[name=mode]:checked").value === "draw";

  function setMode(mode) {
    document.querySelector(`input[name=mode][value=${mode}]`).checked = true;
    document.body.className = `${mode}-mode`;
  }

  for (const radio of document.querySelectorAll("input[name=mode]")) {
    radio.addEventListener("change", () => {
      setMode(radio.value);
      if (radio.value === "draw") classify(ask());
    });
  }
  setMode("draw");

  byId("clear").addEventListener("click", () => pad.clear());
  byId("undo").addEventListener("click", () => pad.undo());
  byId("centre").addEventListener("change", () => classify(ask()));
  byId("cam").addEventListener("change", () => heat());
  byId("cam-class").addEventListener("change", () => heat());
  fillTargets(byId("cam-class"), model.classes);

  async function showFile(file) {
    const number = ask();
    try {
      if (file.size > model.most_bytes) {
        throw new Refused(`'${file.name}' has ${count(file.size)} bytes; at most ${count(model.most_bytes)} are taken.`);
      }
      const found = await post("file", { name: file.name }, file);
      setMode("picture");
      await show(found, number);
    } catch (error) {
      failed(error, number);
    }
  }

  byId("file").addEventListener("change", (event) => {
    if (event.target.files.length) showFile(event.target.files[0]);
    event.target.value = ""; // the same file can be chosen again
  });
  acceptDrops(showFile);

  const samples = model.samples.map((name, i) => {
    const image = make("img", { src: `api/samples/${i}.png`, alt: name, width: 28, height: 28 });
    const button = make("button", { type: "button", title: name }, image);
    button.addEventListener("click", async () => {
      const number = ask();
      try {
        const found = await post(`samples/${i}`);
        setMode("picture");
        await show(found, number);
      } catch (error) {
        failed(error, number);
      }
    });
    return button;
  });
  byId("samples").replaceChildren(...samples);

  const first = model.layers.find((layer) => layer.filters) ?? model.layers.at(-1);
  choose(first.name);
  if (model.watches_run) watchRun();
  document.body.dataset.ready = "true";
}

function acceptDrops(take) {
  let depth = 0;
  const isFile = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => {
    if (!isFile(event)) return;
    depth += 1;
    document.documentElement.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => {
    if (!isFile(event)) return;
    depth = Math.max(0, depth - 1);
    document.documentElement.classList.toggle("dropping", depth > 0);
  });
  addEventListener("dragover", (event) => isFile(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    depth = 0;
    document.documentElement.classList.remove("dropping");
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
}

async function watchRun() {
  byId("run").hidden = false;
  const { start } = await import("./run.js");
  start(byId("run-view"), (seen) => get("run", seen === null ? {} : { seen }));
}

begin().catch(failed);
