// What the model says: bars, the first in words.

import { byId, make, percent, say } from "./elements.js";

/** Shows an answer of the server; null for none. */
export function showClasses(answer, isTrained) {
  const list = byId("classes");
  if (!answer) {
    list.replaceChildren();
    say(byId("first"), "Draw something, or choose a sample.");
    return;
  }
  const likeliest = answer.classes.find((one) => one.index === answer.first);
  const words = `${likeliest.name}, ${percent(likeliest.probability)}`;
  say(byId("first"), isTrained ? words : `${words}: by random weights`);
  while (list.children.length > answer.classes.length) list.lastChild.remove();
  answer.classes.forEach((one, i) => {
    const item = list.children[i] ?? list.appendChild(newItem());
    const [name, bar, share] = item.children;
    name.textContent = name.title = one.name;
    bar.firstChild.style.width = `${100 * (one.probability ?? 0)}%`;
    share.textContent = percent(one.probability);
    item.classList.toggle("likeliest", one.index === answer.first);
  });
}

function newItem() {
  return make(
    "li",
    {},
    make("span", { className: "name" }),
    make("span", { className: "bar", "aria-hidden": "true" }, make("span")),
    make("span", { className: "share" }),
  );
}

/** The classes that Grad-CAM can be asked for. */
export function fillTargets(select, classes) {
  select.replaceChildren(make("option", { value: "first" }, "the likeliest"));
  select.append(...classes.map((name, i) => make("option", { value: String(i) }, name)));
}
