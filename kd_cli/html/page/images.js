"use strict";

// Pixels of a canvas -> what kd_cli/digits/decode.py and kd_cli/data/images.py make of the same image.
// Pixels are {width, height, data}, as a canvas gives them, and opaque.
const images = (() => {
  const PAGE_SIDE = 640;
  const PRECISION = 2 ** 22; // of the whole numbers by which Pillow weighs bytes

  function takeChannel({ width, height, data }, channel) {
    const grid = grids.make(height, width);
    for (let place = 0; place < grid.values.length; place++) grid.values[place] = data[4 * place + channel];
    return grid;
  }

  // A page of ink on paper: grids of red, green and blue, from 0 to 1, at most 640 pixels long; of grey, one grid thrice.
  function toPage(pixels) {
    const factor = Math.ceil(Math.max(pixels.width, pixels.height) / PAGE_SIDE);
    const read = (channel) => grids.map((value) => value / 255, reduce(takeChannel(pixels, channel), factor));
    return isGrey(pixels) ? Array(3).fill(read(0)) : [0, 1, 2].map(read);
  }

  function isGrey({ data }) {
    for (let i = 0; i < data.length; i += 4) if (data[i] !== data[i + 1] || data[i] !== data[i + 2]) return false;
    return true;
  }

  // The mean of each square of bytes, as Pillow rounds it.
  function reduce(grid, factor) {
    if (factor === 1) return grid;
    const small = grids.make(Math.ceil(grid.height / factor), Math.ceil(grid.width / factor));
    for (let y = 0; y < small.height; y++) {
      for (let x = 0; x < small.width; x++) {
        const bottom = Math.min(grid.height, (y + 1) * factor);
        const right = Math.min(grid.width, (x + 1) * factor);
        const count = (bottom - y * factor) * (right - x * factor);
        let sum = count >> 1;
        for (let row = y * factor; row < bottom; row++)
          for (let column = x * factor; column < right; column++) sum += grid.values[row * grid.width + column];
        small.values[y * small.width + x] = Math.floor((sum * Math.floor(2 ** 24 / count)) / 2 ** 24);
      }
    }
    return small;
  }

  // An image scaled until it covers a shape, (channels, height, width), and its middle: bytes, channel by channel.
  function toShape(pixels, [channels, height, width]) {
    const planes = channels === 1 ? [toGrey(pixels)] : [0, 1, 2].map((channel) => takeChannel(pixels, channel));
    return Uint8Array.from(planes.flatMap((plane) => [...cover(plane, height, width).values]));
  }

  function toGrey(pixels) {
    const colours = [0, 1, 2].map((channel) => takeChannel(pixels, channel));
    return grids.map((r, g, b) => (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16, ...colours);
  }

  function cover(plane, height, width) {
    if (plane.height === height && plane.width === width) return plane;
    const ratio = width / height;
    const isWider = plane.width / plane.height >= ratio;
    const [inWidth, inHeight] = isWider ? [ratio * plane.height, plane.height] : [plane.width, plane.width / ratio];
    const rows = scaleRows(plane, width, inWidth);
    return grids.transpose(scaleRows(grids.transpose(rows), height, inHeight));
  }

  // The middle `part` of each row, scaled to `width` bytes. Pillow keeps where it begins and ends in 32 bits.
  function scaleRows(plane, width, part) {
    const from = Math.fround((plane.width - part) / 2);
    const length = Math.fround(Math.fround((plane.width - part) / 2 + part) - from);
    if (length === plane.width && width === plane.width) return plane;
    const scaled = grids.make(plane.height, width);
    grids.weigh(plane.width, width, grids.filters.bicubic, from, length).forEach(({ first, weights }, x) => {
      const whole = weights.map((weight) => Math.trunc(weight * PRECISION + (weight < 0 ? -0.5 : 0.5)));
      for (let y = 0; y < plane.height; y++) {
        let sum = PRECISION / 2;
        for (let i = 0; i < whole.length; i++) sum += plane.values[y * plane.width + first + i] * whole[i];
        scaled.values[y * width + x] = Math.min(Math.max(Math.floor(sum / PRECISION), 0), 255);
      }
    });
    return scaled;
  }

  return { toPage, toShape };
})();
