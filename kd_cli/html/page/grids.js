"use strict";

// Arithmetic on images, as NumPy, SciPy and Pillow do it: sums in 64 bits, values kept in 32.
// A grid is {height, width, values}, row by row; a mask is a grid whose values are 0 and 1.
const grids = (() => {
  const make = (height, width, values = new Float32Array(height * width)) => ({ height, width, values });

  const makeMask = (height, width) => make(height, width, new Uint8Array(height * width));

  // Each value of grids of one shape -> a value of a new one.
  function map(combine, ...given) {
    const [{ height, width }] = given;
    const made = make(height, width);
    const [a, b, c] = given.map((grid) => grid.values);
    for (let i = 0; i < made.values.length; i++) made.values[i] = combine(a[i], b?.[i], c?.[i]);
    return made;
  }

  function where(grid, holds) {
    const mask = makeMask(grid.height, grid.width);
    for (let i = 0; i < mask.values.length; i++) mask.values[i] = holds(grid.values[i], i) ? 1 : 0;
    return mask;
  }

  function transpose({ height, width, values }) {
    const turned = make(width, height, new values.constructor(values.length));
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) turned.values[x * height + y] = values[y * width + x];
    return turned;
  }

  // A window of a grid, from row `top` and column `left` on. Where it is larger than the grid, 0 is put around it.
  function crop(grid, top, left, height, width) {
    const cut = make(height, width, new grid.values.constructor(height * width));
    for (let y = Math.max(0, -top); y < Math.min(height, grid.height - top); y++)
      for (let x = Math.max(0, -left); x < Math.min(width, grid.width - left); x++)
        cut.values[y * width + x] = grid.values[(y + top) * grid.width + x + left];
    return cut;
  }

  const largest = ({ values }) => values.reduce((most, value) => Math.max(most, value), -Infinity);

  function median(values) {
    const sorted = new Float64Array(values).sort();
    const middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }

  // To the nearest whole number, and halves to the even one, as Python rounds.
  function round(value) {
    const up = Math.round(value);
    return up - value === 0.5 && up % 2 ? up - 1 : up;
  }

  // Where a place outside of a line is taken from.
  const borders = {
    reflect: (place, length) => {
      const folded = ((place % (2 * length)) + 2 * length) % (2 * length);
      return folded < length ? folded : 2 * length - 1 - folded;
    },
    nearest: (place, length) => Math.min(Math.max(place, 0), length - 1),
  };

  // Filters each column, which `filter(line, reach, out)` gets with `reach` more places on both sides, then each row.
  function filterLines(grid, reach, border, filter) {
    let filtered = grid;
    for (let axis = 0; axis < 2; axis++) {
      const { height, width, values } = transpose(filtered);
      const line = new Float64Array(width + 2 * reach);
      const out = new Float64Array(width);
      const done = make(height, width);
      for (let y = 0; y < height; y++) {
        for (let x = -reach; x < width + reach; x++) line[x + reach] = values[y * width + border(x, width)];
        filter(line, reach, out);
        done.values.set(out, y * width);
      }
      filtered = done;
    }
    return filtered;
  }

  function blur(grid, sigma, border = borders.reflect) {
    const reach = Math.floor(4 * sigma + 0.5);
    const weights = Array.from({ length: reach + 1 }, (_, x) => Math.exp((-0.5 / (sigma * sigma)) * x * x));
    const sum = weights.reduce((total, weight, x) => total + (x ? 2 : 1) * weight, 0);
    const shares = weights.map((weight) => weight / sum);
    return filterLines(grid, reach, border, (line, start, out) => {
      for (let x = 0; x < out.length; x++) {
        let value = line[x + start] * shares[0];
        for (let far = reach; far > 0; far--) value += (line[x + start - far] + line[x + start + far]) * shares[far];
        out[x] = value;
      }
    });
  }

  const meanOfNine = (grid) =>
    filterLines(grid, 1, borders.reflect, (line, start, out) => {
      for (let x = 0; x < out.length; x++) out[x] = (line[x] + line[x + 1] + line[x + 2]) / 3;
    });

  // The largest value that every pixel of some window of `size` x `size` around a pixel has: removes what is narrower.
  function opening(grid, size) {
    const before = size >> 1;
    const after = size - 1 - before;
    const extreme = (choose, left, right) => (line, start, out) => {
      for (let x = 0; x < out.length; x++)
        out[x] = line.subarray(x + start - left, x + start + right + 1).reduce((a, b) => choose(a, b));
    };
    const eroded = filterLines(grid, before, borders.nearest, extreme(Math.min, before, after));
    return filterLines(eroded, before, borders.nearest, extreme(Math.max, after, before));
  }

  // The mean of each square of `step` x `step` pixels, or of its part in the grid.
  function blockMeans(grid, step) {
    const means = make(Math.ceil(grid.height / step), Math.ceil(grid.width / step));
    for (let y = 0; y < means.height; y++) {
      for (let x = 0; x < means.width; x++) {
        const [bottom, right] = [Math.min(grid.height, (y + 1) * step), Math.min(grid.width, (x + 1) * step)];
        let sum = 0;
        for (let row = y * step; row < bottom; row++)
          for (let column = x * step; column < right; column++) sum += grid.values[row * grid.width + column];
        means.values[y * means.width + x] = sum / ((bottom - y * step) * (right - x * step));
      }
    }
    return means;
  }

  // Pillow's filters, and how far each reaches.
  const filters = {
    box: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
    bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
    bicubic: [
      2,
      (signed) => {
        const x = Math.abs(signed);
        if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
        return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
      },
    ],
  };

  // For each of `length` places: the first one that it is made of, and the weights of that and the following ones.
  // They are made of the part of a line that begins at `from` and has `part` places.
  function weigh(whole, length, [support, weight], from = 0, part = whole) {
    const scale = part / length;
    const stretch = Math.max(1, scale);
    return Array.from({ length }, (_, place) => {
      const centre = from + (place + 0.5) * scale;
      const first = Math.max(0, Math.trunc(centre - support * stretch + 0.5));
      const end = Math.min(whole, Math.trunc(centre + support * stretch + 0.5));
      const weights = Array.from({ length: end - first }, (_, x) => weight((x + first - centre + 0.5) / stretch));
      const sum = weights.reduce((total, each) => total + each, 0);
      return { first, weights: weights.map((each) => each / sum) };
    });
  }

  function resizeRows(grid, width, filter) {
    if (width === grid.width) return grid;
    const resized = make(grid.height, width);
    weigh(grid.width, width, filter).forEach(({ first, weights }, x) => {
      for (let y = 0; y < grid.height; y++) {
        let value = 0;
        for (let i = 0; i < weights.length; i++) value += grid.values[y * grid.width + first + i] * weights[i];
        resized.values[y * width + x] = value;
      }
    });
    return resized;
  }

  const resize = (grid, height, width, filter) =>
    transpose(resizeRows(transpose(resizeRows(grid, width, filter)), height, filter));

  return {
    make,
    makeMask,
    map,
    where,
    transpose,
    crop,
    largest,
    median,
    round,
    borders,
    blur,
    meanOfNine,
    opening,
    blockMeans,
    filters,
    weigh,
    resize,
  };
})();
