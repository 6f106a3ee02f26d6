// The drawing pad: by mouse, finger, pen or keys.

const STEP = 7;
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** `changed` is called after every change of the drawing. */
export class Pad {
  constructor(canvas, brush, changed) {
    this.canvas = canvas;
    this.brush = brush;
    this.changed = changed;
    // The drawing alone, without the pen.
    this.paper = new OffscreenCanvas(canvas.width, canvas.height);
    this.context = this.paper.getContext("2d", { willReadFrequently: true });
    this.strokes = [];
    this.pen = { x: canvas.width / 2, y: canvas.height / 2, down: false, shown: false };
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (this.stroke = null));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("focus", () => this.showPen(canvas.matches(":focus-visible")));
    canvas.addEventListener("blur", () => this.showPen(false));
    this.redraw();
  }

  get isEmpty() {
    return !this.strokes.length;
  }

  clear() {
    this.strokes = [];
    this.stroke = null;
    this.pen.down = false;
    this.redraw();
    this.changed();
  }

  undo() {
    this.strokes.pop();
    this.stroke = null;
    this.pen.down = false;
    this.redraw();
    this.changed();
  }

  /** The drawing, a byte for each pixel. */
  bytes() {
    const { width, height } = this.paper;
    const { data } = this.context.getImageData(0, 0, width, height);
    return Uint8Array.from({ length: width * height }, (_, i) => data[4 * i]);
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / box.width;
    return { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
  }

  press(event) {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.pen.down = false;
    this.begin(this.at(event));
  }

  move(event) {
    if (!this.stroke || !(event.buttons & 1)) return;
    // A fast pointer is seen at more places than there are events.
    for (const one of event.getCoalescedEvents?.() ?? [event]) this.extend(this.at(one));
  }

  begin(point) {
    this.stroke = { width: Number(this.brush.value), points: [point] };
    this.strokes.push(this.stroke);
    this.paint(this.stroke, 0);
    this.show();
    this.changed();
  }

  extend(point) {
    this.stroke.points.push(point);
    this.paint(this.stroke, this.stroke.points.length - 1);
    this.show();
    this.changed();
  }

  key(event) {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") this.undo();
    else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else if (event.key in KEYS) this.walk(...KEYS[event.key], event.shiftKey ? 3 * STEP : STEP);
    else if (event.key === " ") this.togglePen();
    else if (event.key === "Delete" || event.key === "Backspace") this.clear();
    else return;
    event.preventDefault();
  }

  walk(right, down, step) {
    const { width, height } = this.canvas;
    this.pen.x = Math.min(Math.max(this.pen.x + right * step, 0), width);
    this.pen.y = Math.min(Math.max(this.pen.y + down * step, 0), height);
    if (this.pen.down && this.stroke) this.extend({ x: this.pen.x, y: this.pen.y });
    this.showPen(true);
  }

  togglePen() {
    this.pen.down = !this.pen.down;
    this.stroke = null;
    if (this.pen.down) this.begin({ x: this.pen.x, y: this.pen.y });
    this.showPen(true);
  }

  showPen(shown) {
    this.pen.shown = shown;
    this.show();
  }

  /** The piece of a stroke that ends at its point `to`. */
  paint({ width, points }, to) {
    const { context } = this;
    context.lineWidth = width;
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = "#fff";
    context.beginPath();
    const start = points[Math.max(to - 1, 0)];
    context.moveTo(start.x, start.y);
    context.lineTo(points[to].x, points[to].y);
    context.stroke();
  }

  redraw() {
    this.context.fillStyle = "#000";
    this.context.fillRect(0, 0, this.paper.width, this.paper.height);
    // Piece by piece, as it was drawn: the edges of a whole line are a little different.
    for (const stroke of this.strokes) stroke.points.forEach((_, i) => this.paint(stroke, i));
    this.show();
  }

  show() {
    const context = this.canvas.getContext("2d");
    context.drawImage(this.paper, 0, 0);
    if (!this.pen.shown) return;
    const { x, y, down } = this.pen;
    context.strokeStyle = down ? "#ff9a5c" : "#7fb2ff";
    context.lineWidth = 3;
    context.beginPath();
    context.arc(x, y, Math.max(Number(this.brush.value) / 2, 5), 0, 7);
    context.stroke();
  }
}
