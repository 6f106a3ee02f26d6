// Small things that all parts of the page are made of.

export const byId = (id) => document.getElementById(id);

/** An element with properties or attributes, and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Text where it differs: screen readers speak what is assigned to a live region. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const percent = (share) => (share === null ? "not a number" : `${(100 * share).toFixed(1)} %`);

/** With so many digits; null stands for what is no finite number. */
export function number(value, digits = 4) {
  if (value === null || !Number.isFinite(value)) return "not finite";
  const short = Number(value.toPrecision(digits));
  return (Math.abs(short) >= 1e-4 || short === 0 ? String(short) : short.toExponential()).replaceAll("-", "−");
}

export const count = (value) => value.toLocaleString("en");

export const sizes = (shape) => shape.join(" × ");

/** "Earlier" and "later" for parts of so many at `most`; `show` gets the first of the wanted part. */
export function pager(element, what, { first, most, shown, total }, show) {
  element.replaceChildren();
  element.hidden = shown >= total;
  if (element.hidden) return;
  const step = (to, text, label) =>
    make("button", {
      type: "button",
      textContent: text,
      "aria-label": label,
      disabled: to < 0 || to >= total,
      onclick: () => show(to),
    });
  element.append(
    step(first === 0 ? -1 : Math.max(0, first - most), "‹", `Earlier ${what}`),
    make("span", {}, `${first}–${first + shown - 1} of ${total}`),
    step(first + shown, "›", `Later ${what}`),
  );
}
