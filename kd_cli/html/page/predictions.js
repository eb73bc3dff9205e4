"use strict";

// What networks predict, in the form of kd_cli/app/markup.py.
const predictions = (() => {
  const MOST_CLASSES = 20;
  const MOST_RANKED = 10;
  const LONG_NAME = 20;

  const find = (id) => document.getElementById(id);
  const capitalise = (text) => text[0].toUpperCase() + text.slice(1);

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    made.append(...children);
    return made;
  }

  const strong = (text) => element("strong", {}, text);

  // What both predict, or that they disagree.
  function verdict(found, isUnsure) {
    const [first, second] = found.map(({ best }) => PAGE.classes[best]);
    const doubt = isUnsure ? " Not sure: the image may show none of the classes." : "";
    if (found.length === 1) return [`The ${found[0].role} predicts `, strong(first), `.${doubt}`];
    if (first === second) return ["Both predict ", strong(first), `.${doubt}`];
    const [one, other] = found.map(({ role }) => role);
    return [`They disagree: the ${one} predicts `, strong(first), `, the ${other} `, strong(second), `.${doubt}`];
  }

  // The classes to show, each with its probability; of many, the most probable ones, and the others as one.
  function choose(probabilities) {
    const all = PAGE.classes.map((name, i) => [name, probabilities[i]]);
    if (all.length <= MOST_CLASSES) return all;
    const ranked = all.sort((a, b) => b[1] - a[1]);
    const others = ranked.splice(MOST_RANKED).map(([, probability]) => probability);
    return [...ranked, [`${others.length.toLocaleString("en")} others`, others.reduce((sum, each) => sum + each, 0)]];
  }

  function drawBars({ role, best, probabilities }) {
    const name = PAGE.classes[best];
    const heads = ["Class", "Bar", "Probability"].map((head) => element("th", { scope: "col" }, head));
    const rows = choose(probabilities).map(([label, probability]) => {
      const bar = element("div");
      bar.style.width = `${100 * probability}%`;
      return element(
        "tr",
        label === name ? { class: "kd-most" } : {},
        element("th", { scope: "row", ...(label.length > LONG_NAME && { title: label }) }, label),
        element("td", { class: "kd-track" }, bar),
        element("td", {}, `${(100 * probability).toFixed(1)} %`),
      );
    });
    const confidence = element("small", {}, `${(100 * probabilities[best]).toFixed(1)}%`);
    return element(
      "table",
      { class: `kd-bars kd-${role}` },
      element("caption", {}, `${capitalise(role)}: ${name} `, confidence),
      element("thead", { class: "kd-unseen" }, element("tr", {}, ...heads)),
      element("tbody", {}, ...rows),
    );
  }

  // The image that the networks saw: bytes, channel by channel.
  function drawSeen(bytes) {
    const [channels, height, width] = PAGE.shape;
    const about = `The image as the networks saw it, ${width} by ${height} pixels`;
    const canvas = element("canvas", { class: "kd-pixels", width, height, role: "img", "aria-label": about });
    const pixels = new ImageData(width, height);
    for (let place = 0; place < width * height; place++) {
      const colour = [0, 1, 2].map((channel) => bytes[(channels === 1 ? 0 : channel * width * height) + place]);
      pixels.data.set([...colour, 255], 4 * place);
    }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    const what = PAGE.networks.length > 1 ? "What the networks saw" : "What the network saw";
    return element("figure", {}, canvas, element("figcaption", {}, what));
  }

  function show(found, bytes, note) {
    const { isUnlike } = found.find((each) => each.isUnlike !== null) ?? {}; // a teacher's says more than a student's
    const differ = new Set(found.map(({ best }) => best)).size > 1;
    const isOdd = PAGE.areDigits && signs.looksLikeNoDigit(bytes);
    find("verdict").replaceChildren(...verdict(found, isUnlike !== undefined && (isUnlike || isOdd)));
    find("verdict").classList.toggle("kd-differ", differ);
    find("note").textContent = note;
    find("note").hidden = !note;
    find("predictions").replaceChildren(...found.map(drawBars), drawSeen(bytes));
    find("predictions").hidden = false;
  }

  // A message in place of predictions.
  function say(message) {
    find("verdict").textContent = message;
    find("verdict").classList.remove("kd-differ");
    find("note").hidden = find("predictions").hidden = true;
  }

  function describeNetworks() {
    find("sources").replaceChildren(
      ...PAGE.networks.map(({ role, architecture, about }) =>
        element("li", {}, `${capitalise(role)} `, strong(architecture), `, ${about}`),
      ),
    );
  }

  return { show, say, describeNetworks };
})();
