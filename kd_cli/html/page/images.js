"use strict";

// Pixels of a canvas -> a page of ink on paper: kd_cli/digits/decode.py.
const images = (() => {
  const PAGE_SIDE = 640;

  // {width, height, data}, as a canvas gives it, opaque -> grids of red, green and blue, from 0 to 1, at most 640 long.
  function toPage(image) {
    const factor = Math.ceil(Math.max(image.width, image.height) / PAGE_SIDE);
    return [0, 1, 2].map((channel) => {
      const plane = grids.make(image.height, image.width);
      plane.values.forEach((_, place) => (plane.values[place] = image.data[4 * place + channel]));
      return grids.map((value) => value / 255, factor > 1 ? reduce(plane, factor) : plane);
    });
  }

  // The mean of each square of pixels, in whole numbers, as Pillow computes it.
  function reduce({ height, width, values }, factor) {
    const small = grids.make(Math.ceil(height / factor), Math.ceil(width / factor));
    for (let y = 0; y < small.height; y++) {
      for (let x = 0; x < small.width; x++) {
        const [bottom, right] = [Math.min(height, (y + 1) * factor), Math.min(width, (x + 1) * factor)];
        const count = (bottom - y * factor) * (right - x * factor);
        let sum = count >> 1;
        for (let row = y * factor; row < bottom; row++)
          for (let column = x * factor; column < right; column++) sum += values[row * width + column];
        small.values[y * small.width + x] = Math.floor((sum * Math.floor(2 ** 24 / count)) / 2 ** 24);
      }
    }
    return small;
  }

  return { toPage };
})();
