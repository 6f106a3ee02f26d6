// Numbers as colours: from blue over nothing to orange where there are negative ones, else from paper to ink.

const dark = matchMedia("(prefers-color-scheme: dark)");

const STOPS = {
  light: {
    signed: [[16, 66, 140], [110, 160, 214], [246, 246, 243], [233, 142, 80], [160, 50, 8]],
    plain: [[246, 247, 250], [150, 184, 226], [60, 112, 184], [12, 38, 92]],
  },
  dark: {
    signed: [[140, 196, 255], [52, 104, 176], [24, 29, 38], [190, 88, 28], [255, 186, 132]],
    plain: [[20, 25, 33], [38, 78, 136], [98, 156, 226], [226, 240, 255]],
  },
};
const NOT_FINITE = [160, 32, 240];
const STEPS = 255;

/** Calls `repaint` when the page goes from light to dark or back. */
export const onThemeChange = (repaint) => dark.addEventListener("change", repaint);

/** Colours for numbers from `low` to `high`: {table, low, high} with the ends of the scale, and a table of its steps. */
export function palette(low, high, isSigned = low < 0) {
  const stops = STOPS[dark.matches ? "dark" : "light"][isSigned ? "signed" : "plain"];
  const [from, to] = isSigned ? [-Math.max(-low, high), Math.max(-low, high)] : [low, high];
  const table = new Uint8ClampedArray(4 * (STEPS + 2));
  for (let step = 0; step <= STEPS; step++) {
    const at = (step / STEPS) * (stops.length - 1);
    const i = Math.min(Math.floor(at), stops.length - 2);
    table.set([...stops[i].map((start, channel) => start + (at - i) * (stops[i + 1][channel] - start)), 255], 4 * step);
  }
  table.set([...NOT_FINITE, 255], 4 * (STEPS + 1));
  return { table, low: from, high: to };
}

/** The numbers of a map, rows of `width`, as a picture of a pixel each. */
export function picture(values, width, { table, low, high }) {
  const height = Math.ceil(values.length / width);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const scale = high > low ? STEPS / (high - low) : 0;
  for (let i = 0; i < values.length; i++) {
    const step = Math.round(Math.min(Math.max((values[i] - low) * scale, 0), STEPS));
    const at = 4 * (Number.isFinite(values[i]) ? step : STEPS + 1);
    for (let channel = 0; channel < 4; channel++) image.data[4 * i + channel] = table[at + channel];
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Shows a picture on a canvas of `side` pixels in its longer direction at least, each of its own pixels a square. */
export function enlarge(canvas, small, side = 0) {
  const scale = Math.max(1, Math.round(side / Math.max(small.width, small.height)));
  canvas.width = small.width * scale;
  canvas.height = small.height * scale;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  return { context, scale };
}

/** A bar of the colours between the numbers at its ends. */
export function legend(element, colours, number) {
  const canvas = document.createElement("canvas");
  const { low, high } = colours;
  const steps = 64;
  const values = Float32Array.from({ length: steps }, (_, i) => low + ((high - low) * i) / (steps - 1));
  enlarge(canvas, picture(values, steps, colours));
  canvas.setAttribute("aria-hidden", "true");
  element.replaceChildren(number(low), canvas, number(high));
}
