// The image as the model reads it, with what Grad-CAM and receptive fields say of it.

import { getNumbers } from "./api.js";
import { enlarge } from "./colours.js";

const SIDE = 280;
// As numbacnn.explain.blended has them: the colours of heat, and how much of them covers the image where it is 1.
const HEAT = [[0, 0, 128], [0, 128, 255], [255, 255, 0], [255, 0, 0], [128, 0, 0]];
const OPACITY = 0.7;

export class View {
  constructor(canvas) {
    this.canvas = canvas;
    this.clear();
  }

  clear() {
    this.number = null;
    this.image = null;
    this.heat = null;
    this.field = null;
    this.canvas.width = this.canvas.height = SIDE;
    this.canvas.setAttribute("aria-label", "No image yet");
  }

  async show(number, said) {
    const image = new Image();
    image.src = `api/pictures/${number}.png`;
    await image.decode();
    this.number = number;
    this.image = image;
    this.heat = null;
    this.field = null;
    this.canvas.setAttribute("aria-label", `What the model sees, ${image.width} × ${image.height} pixels: ${said}`);
    this.draw();
  }

  /** Where it saw the class `target`; null for no Grad-CAM. */
  async showHeat(target) {
    const of = this.number;
    const heat = target === null || of === null ? null : await getNumbers("gradcam", { picture: of, target });
    if (of !== this.number) return;
    this.heat = heat && heatPicture(heat);
    this.draw();
  }

  /** Outlines [[top, bottom], [left, right]], ends included; null for none. */
  showField(field) {
    this.field = field;
    this.draw();
  }

  draw() {
    if (!this.image) return;
    const { canvas, image } = this;
    const { context, scale } = enlarge(canvas, image, SIDE);
    if (this.heat) context.drawImage(this.heat, 0, 0, canvas.width, canvas.height);
    if (!this.field) return;
    const [[top, bottom], [left, right]] = this.field;
    if (bottom < top || right < left) return;
    const box = [left * scale, top * scale, (right - left + 1) * scale, (bottom - top + 1) * scale];
    for (const [width, colour] of [[7, "#000"], [3, "#ff9a3c"]]) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      // Inside of the box, so that it is seen at the border of the image, too.
      context.strokeRect(box[0] + 3, box[1] + 3, Math.max(box[2] - 6, 1), Math.max(box[3] - 6, 1));
    }
  }

  /** The part of the image in a field, on a canvas. */
  crop(canvas, [[top, bottom], [left, right]]) {
    const [width, height] = [right - left + 1, bottom - top + 1];
    const scale = Math.max(1, Math.round(SIDE / 2 / Math.max(width, height)));
    canvas.width = width * scale;
    canvas.height = height * scale;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(this.image, left, top, width, height, 0, 0, canvas.width, canvas.height);
  }
}

function heatPicture({ values, shape }) {
  const [height, width] = shape;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  values.forEach((heat, i) => {
    const at = Math.min(heat, 0.9999) * (HEAT.length - 1);
    const step = Math.floor(at);
    const colour = HEAT[step].map((start, channel) => start + (at - step) * (HEAT[step + 1][channel] - start));
    image.data.set([...colour, 255 * OPACITY * heat], 4 * i);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}
