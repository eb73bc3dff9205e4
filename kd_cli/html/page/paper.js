"use strict";

// How far each pixel of a page differs from the paper: kd_cli/digits/paper.py, which says why.
// A page is three grids, of red, green and blue, from 0 to 1.
const paper = (() => {
  const SMALL_PAGE = 96;
  const FIT_SIDE = 48;
  const WIDEST_STROKE = 0.6;

  const channels = [0, 1, 2];

  // What is made of each channel. Those of a grey page are one grid, of which it is made once.
  function eachChannel(page, work) {
    const made = new Map(page.map((grid, channel) => [grid, channel]));
    made.forEach((channel, grid) => made.set(grid, work(grid, channel)));
    return page.map((grid) => made.get(grid));
  }

  // {contrast, noise}
  function measureContrast(page) {
    const found = find(page);
    const difference = eachChannel(page, (grid, channel) => grids.map((a, b) => a - b, grid, found[channel]));
    const contrast = alongInkColour(difference);
    return { contrast: withoutShadows(enlarge(contrast)), noise: measureNoise(contrast) };
  }

  // The terms of a quadratic at a place of a page.
  function terms(row, column, { height, width }) {
    const y = (2 * row + 1) / height - 1;
    const x = (2 * column + 1) / width - 1;
    return [1, x, y, x * x, x * y, y * y];
  }

  const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

  // The colour of the paper at each pixel, by iteratively reweighted least squares.
  function find(page) {
    const step = Math.ceil(Math.max(page[0].height, page[0].width) / FIT_SIDE);
    const small = eachChannel(page, (grid) => grids.blockMeans(grid, step));
    const { height, width } = small[0];
    const places = Array.from({ length: height * width }, (_, i) => [Math.floor(i / width), i % width]);
    const basis = places.map(([row, column]) => terms(row, column, small[0]));
    const border = [0, height - 1].flatMap((row) => Array.from({ length: width }, (_, x) => row * width + x));
    border.push(...[0, width - 1].flatMap((x) => Array.from({ length: height }, (_, y) => y * width + x)));
    const paperThere = small.map(({ values }) => grids.median(border.map((place) => values[place])));
    let surface = places.map(() => paperThere);
    let spread = 0.1;
    let coefficients;
    for (let round = 0; round < 8; round++) {
      const away = surface.map((colour, i) => Math.hypot(...channels.map((c) => small[c].values[i] - colour[c])));
      spread = Math.min(Math.max(1.5 * grids.median(away), 0.01), spread);
      const weights = away.map((distance) => 1 / (1 + (distance / spread) ** 2));
      coefficients = fit(basis, weights, small);
      surface = basis.map((each) => coefficients.map((channel) => dot(each, channel)));
    }
    return eachChannel(page, (grid, channel) => evaluate(coefficients[channel], grid));
  }

  // The coefficients of the quadratic that is nearest to each channel: the normal equations, by elimination.
  function fit(basis, weights, small) {
    const rows = basis[0].map((_, i) => [
      ...basis[0].map((_, j) =>
        dot(
          weights,
          basis.map((each) => each[i] * each[j]),
        ),
      ),
      ...small.map(({ values }) =>
        dot(
          weights,
          basis.map((each, place) => each[i] * values[place]),
        ),
      ),
    ]);
    const size = rows.length;
    for (let pivot = 0; pivot < size; pivot++) {
      const best = rows.reduce(
        (a, row, i) => (i > a && Math.abs(row[pivot]) > Math.abs(rows[a][pivot]) ? i : a),
        pivot,
      );
      [rows[pivot], rows[best]] = [rows[best], rows[pivot]];
      for (let i = 0; i < size; i++) {
        if (i === pivot) continue;
        const factor = rows[i][pivot] / rows[pivot][pivot];
        rows[i] = rows[i].map((value, j) => value - factor * rows[pivot][j]);
      }
    }
    return channels.map((channel) => rows.map((row, i) => row[size + channel] / row[i]));
  }

  function evaluate([one, byX, byY, byXX, byXY, byYY], { height, width }) {
    const surface = grids.make(height, width);
    for (let row = 0; row < height; row++) {
      const y = (2 * row + 1) / height - 1;
      for (let column = 0; column < width; column++) {
        const x = (2 * column + 1) / width - 1;
        surface.values[row * width + column] = one + byY * y + byYY * y * y + (byX + byXY * y + byXX * x) * x;
      }
    }
    return surface;
  }

  // Differences from the paper -> their lengths in the ink's direction.
  function alongInkColour(difference) {
    const smoothed = eachChannel(difference, (grid) => grids.blur(grid, 1));
    const distance = grids.map((r, g, b) => Math.sqrt(r * r + g * g + b * b), ...smoothed).values;
    const half = 0.5 * distance.reduce((a, b) => Math.max(a, b));
    const strongest = [];
    distance.forEach((value, i) => value >= half && strongest.push(i));
    const ink = smoothed.map(({ values }) => strongest.map((i) => values[i]));
    const direction = principal(ink.map((a) => ink.map((b) => dot(a, b))));
    const sum = dot(
      direction,
      ink.map((channel) => channel.reduce((a, b) => a + b, 0)),
    );
    const [r, g, b] = direction.map((value) => (sum > 0 ? value : -value));
    return grids.map((red, green, blue) => red * r + green * g + blue * b, ...difference);
  }

  // The direction that a symmetric matrix stretches most: in its powers, nothing else is left.
  function principal(matrix) {
    let power = matrix;
    for (let i = 0; i < 12; i++) {
      const trace = channels.reduce((sum, c) => sum + power[c][c], 0) || 1;
      const scaled = power.map((row) => row.map((value) => value / trace));
      power = scaled.map((row) =>
        channels.map((c) =>
          dot(
            row,
            scaled.map((other) => other[c]),
          ),
        ),
      );
    }
    const longest = power.reduce((a, b) => (dot(b, b) > dot(a, a) ? b : a));
    return longest.map((value) => value / (Math.hypot(...longest) || 1));
  }

  function enlarge(contrast) {
    const { height, width } = contrast;
    const factor = Math.ceil(SMALL_PAGE / Math.min(height, width));
    if (factor === 1 || Math.max(height, width) >= 4 * SMALL_PAGE) return contrast;
    return grids.resize(contrast, factor * height, factor * width, grids.filters.bicubic);
  }

  // Removes what is too wide for a stroke.
  function withoutShadows(contrast) {
    const { height, width } = contrast;
    const small = grids.blockMeans(contrast, Math.ceil(Math.max(height, width) / FIT_SIDE));
    const window = Math.max(3, grids.round(WIDEST_STROKE * Math.min(small.height, small.width)));
    const wide = grids.blur(grids.opening(small, window), 1, grids.borders.nearest);
    const flat = grids.map((a, b) => a - b, contrast, grids.resize(wide, height, width, grids.filters.bilinear));
    const middle = Math.fround(grids.median(flat.values));
    return grids.map((value) => value - middle, flat);
  }

  // Standard deviation of the paper's noise after a blur of 1 pixel.
  function measureNoise(contrast) {
    const rough = grids.map((a, b) => Math.abs(a - b), contrast, grids.meanOfNine(contrast));
    const sorted = rough.values.sort();
    const place = 0.3 * (sorted.length - 1);
    const [low, high] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
    return (0.28 * (low + (high - low) * (place % 1))) / (0.385 * 0.943);
  }

  return { measureContrast };
})();
