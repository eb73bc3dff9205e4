"use strict";

// The page: what is drawn, chosen, dropped or pasted is predicted. `PAGE`, of networks.js, says what the networks take.
(() => {
  const MOST_PIXELS = 50 * 2 ** 20;

  const find = (selector) => document.querySelector(selector);
  const strokes = [];
  let latest = 0; // the number of the image that was given last: an earlier one may come to its end after it

  function readPixels(source, width, height) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const over = (colour) => {
      context.fillStyle = colour;
      context.fillRect(0, 0, width, height);
      context.drawImage(source, 0, 0);
      return context.getImageData(0, 0, width, height);
    };
    const onWhite = over("#fff");
    return PAGE.isHandwriting && isEven(onWhite.data) ? over("#000") : onWhite; // white ink on nothing would vanish
  }

  function isEven(data) {
    let [least, most] = [255, 0];
    data.forEach((value, i) => {
      if (i % 4 === 3) return;
      least = Math.min(least, value);
      most = Math.max(most, value);
    });
    return most - least <= 25;
  }

  // Predicts what `load` gives: {source, width, height}.
  async function predict(name, load) {
    const number = ++latest;
    try {
      const { source, width, height } = await load();
      if (width * height > MOST_PIXELS) throw new Error(`${name} has too many pixels: make it smaller.`);
      const pixels = readPixels(source, width, height);
      const read = PAGE.isHandwriting
        ? handwriting.read(images.toPage(pixels), PAGE.areDigits)
        : { bytes: images.toShape(pixels, PAGE.shape), count: 1 };
      if (!read) throw new Error(`${name} is blank: use an image with something on it.`);
      const found = await network.predict(read.bytes);
      const several = read.count > 1 ? `These are ${read.count} digits: the one with most ink is read.` : "";
      if (number === latest) predictions.show(found, read.bytes, several);
    } catch (error) {
      if (number === latest) predictions.say(error.message);
    }
  }

  function predictDrawing(board) {
    find("#preview").hidden = true;
    if (strokes.length) return predict("The drawing", () => ({ source: board.shrink(), width: 280, height: 280 }));
    latest++;
    predictions.say(invitation());
  }

  async function predictFile(file) {
    if (!file) return;
    const preview = find("#preview");
    await predict(file.name, async () => {
      let bitmap;
      try {
        bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
      } catch {
        throw new Error(`${file.name} is no image that this browser can read.`);
      }
      URL.revokeObjectURL(preview.src);
      preview.src = URL.createObjectURL(file);
      preview.alt = file.name;
      preview.hidden = false;
      return { source: bitmap, width: bitmap.width, height: bitmap.height };
    });
  }

  function invitation() {
    if (!PAGE.isHandwriting) return "";
    const what = PAGE.areDigits ? "digit" : "character";
    return `Draw one ${what}, as large as you like. It is predicted after every stroke.`;
  }

  function listen() {
    const input = find("input[type=file]");
    input.addEventListener("change", () => {
      predictFile(input.files[0]);
      input.value = ""; // the same file may be chosen again
    });
    const dragging = (isOver) => document.body.classList.toggle("dragging", isOver);
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      dragging(true);
    });
    document.addEventListener("dragleave", (event) => event.relatedTarget || dragging(false));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      dragging(false);
      predictFile(event.dataTransfer.files[0]);
    });
    document.addEventListener("paste", (event) => predictFile(event.clipboardData.files[0]));
  }

  find("#title").textContent = document.title = PAGE.title;
  find("#limits").textContent = PAGE.limits;
  predictions.describeNetworks();
  predictions.say(invitation());
  listen();
  if (PAGE.isHandwriting) {
    const board = createBoard(find(".board"), strokes, () => predictDrawing(board));
  } else {
    find(".board").hidden = true;
    find(".columns").classList.add("without-board");
  }
  // The runtime is the last of the scripts.
  addEventListener("DOMContentLoaded", () =>
    network.open().catch((error) => predictions.say(`The networks cannot run in this browser: ${error.message}`)),
  );
})();
