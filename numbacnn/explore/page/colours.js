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

/** Calls `repaint` when the page goes from light to dark or back. */
export const onThemeChange = (repaint) => dark.addEventListener("change", repaint);

/** Colours for numbers from `low` to `high`: {of(value), low, high} with the ends of the scale. */
export function palette(low, high, isSigned = low < 0) {
  const stops = STOPS[dark.matches ? "dark" : "light"][isSigned ? "signed" : "plain"];
  const [from, to] = isSigned ? [-Math.max(-low, high), Math.max(-low, high)] : [low, high];
  const scale = to > from ? (stops.length - 1) / (to - from) : 0;
  const of = (value) => {
    if (!Number.isFinite(value)) return NOT_FINITE;
    const at = Math.min(Math.max((value - from) * scale, 0), stops.length - 1);
    const i = Math.min(Math.floor(at), stops.length - 2);
    return stops[i].map((start, channel) => start + (at - i) * (stops[i + 1][channel] - start));
  };
  return { of, low: from, high: to };
}

/** The numbers of a map, rows of `width`, as a picture of a pixel each. */
export function picture(values, width, colours) {
  const height = Math.ceil(values.length / width);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  values.forEach((value, i) => image.data.set([...colours.of(value), 255], 4 * i));
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
  const steps = 64;
  const values = Float32Array.from({ length: steps }, (_, i) => colours.low + ((colours.high - colours.low) * i) / (steps - 1));
  enlarge(canvas, picture(values, steps, colours));
  canvas.setAttribute("aria-hidden", "true");
  element.replaceChildren(number(colours.low), canvas, number(colours.high));
}
