// A training run: curves, confusion matrix and worst mistakes, while it goes on.

import { make, percent, say } from "./elements.js";

const POLL_MS = 2000;

const figure = (value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(4)).toLocaleString("en"));

function duration(seconds) {
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

const TITLES = {
  running: "The run goes on",
  silent: "No sign of life",
  ended: "The run has ended",
  unknown: "Whether the run goes on is not known",
  absent: "There is no run",
};

class View {
  constructor(element) {
    this.filter = null;
    this.mistakes = null;
    this.status = make("p", { className: "run-status", role: "status" });
    this.how = make("p", { className: "run-how" });
    this.errors = make("ul", { className: "run-errors", role: "alert" });
    this.bar = make("progress", { className: "run-bar", max: 1, "aria-label": "Share of the run that is done" });
    this.figures = make("dl", { className: "run-figures" });
    this.curves = make("div", { className: "run-curves" });
    this.epochs = make("table");
    this.details = make(
      "details",
      {},
      make("summary", {}, "Figures of every epoch"),
      scrolled("Figures of every epoch", this.epochs),
    );
    this.matrix = make("table", { className: "run-confusion" });
    this.matrixNote = make("p", { className: "hint" });
    this.worstNote = make("p", { className: "hint", role: "status" });
    this.all = make("button", { type: "button", textContent: "Show all", onclick: () => this.filterBy(null) });
    this.worst = make("div", { className: "run-worst" });
    this.confusionSection = make(
      "section",
      {},
      make("h3", {}, "Confusion matrix"),
      this.matrixNote,
      scrolled("Confusion matrix", this.matrix),
    );
    this.worstSection = make(
      "section",
      {},
      make("h3", {}, "Worst mistakes"),
      make("div", { className: "run-filter" }, this.worstNote, this.all),
      this.worst,
    );
    this.curvesSection = make("section", {}, make("h3", {}, "Curves"), this.curves, this.details);
    element.classList.add("run");
    element.replaceChildren(
      ...[this.status, this.how, this.errors, this.bar, this.figures],
      ...[this.curvesSection, this.confusionSection, this.worstSection],
    );
    for (const part of [this.bar, this.curvesSection, this.confusionSection, this.worstSection]) part.hidden = true;
  }

  show(state) {
    this.status.dataset.state = state.status.state;
    this.showErrors(state.errors);
    if (state.records) {
      this.records = state.records;
      this.showCurves(state);
      this.showMistakes(state.mistakes);
    }
    this.showProgress(state);
  }

  /** The server does not answer: what it said last stays, marked as old. */
  lost(error) {
    this.status.dataset.state = "lost";
    say(this.status, "The server is gone");
    say(this.how, `What is below is what it said last. (${error.message})`);
  }

  showErrors(errors) {
    const lines = errors.join("\n");
    if (lines === this.errorLines) return;
    this.errorLines = lines;
    this.errors.replaceChildren(...errors.map((line) => make("li", {}, line)));
  }

  showProgress({ status, progress, folder }) {
    const last = this.records.at(-1);
    const finished = this.records.length;
    const of = progress ? ` of ${progress.epochs}` : "";
    const epoch = status.state === "running" && progress ? Math.max(progress.epoch, 1) : finished;
    say(this.status, status.state === "absent" ? TITLES.absent : `${TITLES[status.state]}: epoch ${epoch}${of}`);
    const age = status.seconds_ago === null ? "" : ` Written ${duration(status.seconds_ago)} ago.`;
    say(this.how, `${folder}: ${status.text}.${age}`);
    const atWork = progress && status.state === "running";
    this.bar.hidden = !progress;
    if (progress) {
      const begun = progress.batches ? progress.batch / progress.batches : 0;
      this.bar.value = Math.max(progress.epoch - 1 + begun, finished) / progress.epochs;
    }
    const rows = [];
    if (atWork) {
      rows.push([progress.doing, `batch ${progress.batch} of ${progress.batches}`]);
      rows.push(["train loss, so far", figure(progress.loss)], ["train accuracy, so far", shareOf(progress.accuracy)]);
    }
    if (last) {
      rows.push(["test loss", figure(last.test_loss)], ["test accuracy", shareOf(last.test_accuracy)]);
      rows.push(["learning rate", figure(last.lr)], ["seconds an epoch", figure(last.seconds)]);
    }
    const rate = atWork && progress.examples_per_second !== null ? progress : last;
    if (rate) rows.push(["examples a second", figure(Math.round(rate.examples_per_second))]);
    if (atWork && progress.seconds_left !== null) rows.push(["time left", duration(progress.seconds_left)]);
    this.figures.replaceChildren(
      ...rows.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))),
    );
  }

  showCurves({ records, curves }) {
    this.curvesSection.hidden = !records.length;
    // Pictures that History draws for notebooks; every text in them is escaped there.
    this.curves.innerHTML = curves.join("");
    const metrics = [...new Set(records.flatMap((record) => Object.keys(record.metrics)))];
    const names = ["epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "lr", "seconds"];
    const head = [...names, ...metrics].map((name) => make("th", { scope: "col" }, name.replaceAll("_", " ")));
    const rows = records.map((record) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, String(record.epoch)),
        ...names.slice(1).map((name) => make("td", {}, figure(record[name]))),
        ...metrics.map((name) => make("td", {}, figure(record.metrics[name]))),
      ),
    );
    this.epochs.replaceChildren(make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
  }

  showMistakes(mistakes) {
    this.mistakes = mistakes;
    this.confusionSection.hidden = this.worstSection.hidden = !mistakes;
    if (!mistakes) return;
    this.showMatrix();
    this.showWorst();
  }

  showMatrix() {
    const { classes, shown, confusion, labels, worst, epoch } = this.mistakes;
    const focused = this.matrix.contains(document.activeElement) ? document.activeElement.dataset.cell : null;
    const kept = shown.length < classes.length ? ` The ${shown.length} of ${classes.length} classes with the most mistakes.` : "";
    this.matrixNote.textContent =
      `After epoch ${epoch}: rows are labels, columns what the model said.${kept} Numbers that are underlined choose among the mistakes below.`;
    const corner = make("th", { scope: "col", className: "run-corner" }, "label \\ said");
    const head = shown.map((column) => make("th", { scope: "col" }, make("span", {}, classes[column])));
    const rows = shown.map((row, i) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, classes[row]),
        ...shown.map((column, j) => {
          const count = confusion[i][j];
          const listed = worst.filter((one) => one.label === row && one.predicted === column).length;
          const share = labels[row] ? count / labels[row] : 0;
          const cell = make("td", { className: row === column ? "run-right" : "run-wrong" });
          cell.style.setProperty("--share", Math.sqrt(share).toFixed(3));
          cell.title = `${count} of ${labels[row]} labelled ${classes[row]} said ${classes[column]}, ${percent(share)}`;
          cell.append(listed ? this.cellButton(row, column, count, listed) : String(count));
          return cell;
        }),
      ),
    );
    this.matrix.replaceChildren(make("thead", {}, make("tr", {}, corner, ...head)), make("tbody", {}, ...rows));
    if (focused) this.matrix.querySelector(`[data-cell="${focused}"]`)?.focus();
  }

  cellButton(row, column, count, listed) {
    const { classes } = this.mistakes;
    return make("button", {
      type: "button",
      textContent: String(count),
      "data-cell": `${row},${column}`,
      "aria-pressed": String(this.isFilter(row, column)),
      "aria-label": `${count}: label ${classes[row]}, said ${classes[column]}; show the ${listed} below`,
      onclick: () => this.filterBy(this.isFilter(row, column) ? null : [row, column]),
    });
  }

  isFilter(row, column) {
    return this.filter !== null && this.filter[0] === row && this.filter[1] === column;
  }

  filterBy(filter) {
    this.filter = filter;
    for (const button of this.matrix.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.cell === String(filter)));
    }
    this.showWorst();
  }

  showWorst() {
    const { classes, worst, epoch } = this.mistakes;
    const chosen = worst.filter((one) => !this.filter || this.isFilter(one.label, one.predicted));
    const kind = this.filter ? ` of label ${classes[this.filter[0]]}, said ${classes[this.filter[1]]}` : "";
    const none = worst.length ? `None of the worst ${worst.length} is` : "There is none";
    const some = `${chosen.length} of the worst ${worst.length}, those with the highest loss first`;
    say(this.worstNote, `After epoch ${epoch}: ${chosen.length ? some : none}${kind}.`);
    this.all.hidden = !this.filter;
    this.worst.replaceChildren(
      ...chosen.map((one) => {
        const caption = `label ${classes[one.label]}, said ${classes[one.predicted]}, `;
        const share = make("span", {}, percent(one.predicted_probability));
        const more = `test image ${one.index}; the label has ${percent(one.label_probability)}`;
        const image = one.image
          ? make("img", { src: one.image, alt: `Test image ${one.index}, ${classes[one.label]}` })
          : make("p", {}, "no picture: it has neither one channel nor three");
        return make("figure", { title: more }, image, make("figcaption", {}, caption, share));
      }),
    );
  }
}

/** A table that scrolls in itself where it is too wide, also by keys. */
function scrolled(name, table) {
  return make("div", { className: "run-scrolled", tabIndex: 0, role: "region", "aria-label": name }, table);
}

const shareOf = (share) => (share === null || share === undefined ? "–" : percent(share));

/**
 * Shows a run in an element, and follows it while the page is visible.
 *
 * @param {HTMLElement} element what is filled.
 * @param {(seen: string | null) => Promise<object>} fetchState gives the state of `numbacnn.explore.runs.state_of`; it
 *   may leave out what the version `seen` had already.
 * @returns {() => void} a function that ends it.
 */
export function start(element, fetchState) {
  const view = new View(element);
  let seen = null;
  let timer = null;
  let isBusy = false;
  let isOver = false;

  async function poll() {
    clearTimeout(timer);
    if (isBusy || isOver || document.hidden) return;
    isBusy = true;
    try {
      const state = await fetchState(seen);
      if (isOver) return;
      view.show(state);
      seen = state.version;
    } catch (error) {
      if (!isOver) view.lost(error);
      console.warn(error);
    } finally {
      isBusy = false;
    }
    if (!isOver) timer = setTimeout(poll, POLL_MS);
  }

  document.addEventListener("visibilitychange", poll);
  poll();
  return () => {
    isOver = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", poll);
  };
}
