"use strict";

// Where on a page the ink of a character is: kd_cli/digits/ink.py and groups.py, which say why.
// Ruled lines, and what is around the paper on a photograph, are for `kd predict` alone.
const ink = (() => {
  const FAINTEST = 0.06;
  const INK_SHARE = 0.33;
  const NOISE_MARGIN = 4.5;
  const BLANK_MARGIN = 4;
  const LEAST_PIXELS = 12;
  const SOFT_EDGE = 0.06;

  const LEAST_PART = 0.04;
  const LEAST_SHARPNESS = 0.25;
  const WIDEST = 1.8;
  const LEAST_MASS = 0.1;
  const LEAST_SIDE = 0.5;
  const LEAST_HEIGHT = 0.4;
  const WIDEST_BREAK = 0.2;

  // Cuts the ink of the character with most of it out of a page: {values, count}, a grid in which 0 is paper and 1 is
  // ink, and how many characters there are; null where the page is blank. Only digits are told apart.
  function find(page, areDigits) {
    const { contrast, noise } = paper.measureContrast(page);
    const smoothed = grids.blur(contrast, 1);
    const darkness = measureDarkness(findPieces(smoothed, threshold(grids.largest(smoothed), noise)));
    if (darkness < Math.max(FAINTEST, BLANK_MARGIN * noise)) return null;
    // Once more, with a threshold that fits the digits rather than the darkest speck.
    const pieces = findPieces(smoothed, threshold(darkness, noise));
    const several = areDigits && Math.min(page[0].height, page[0].width) >= LEAST_PIXELS;
    const groups = several ? group(pieces) : [];
    const characters = groups.length > 1 ? groups : [aroundHeaviest(pieces)];
    const weight = (parts) => parts.reduce((sum, part) => sum + pieces.mass[part], 0);
    const heaviest = characters.reduce((a, b) => (weight(b) > weight(a) ? b : a));
    const chosen = grids.where(pieces.labels, (label) => heaviest.includes(label));
    return { values: cutOut(contrast, chosen), count: characters.length };
  }

  const threshold = (darkest, noise) =>
    Math.min(Math.max(INK_SHARE * darkest, NOISE_MARGIN * noise, FAINTEST / 2), darkest / 2);

  // The connected pieces of what stands out; label 0 is paper. Pieces with soft edges, as shadows have, have little mass.
  function findPieces(contrast, level) {
    const limit = Math.fround(level);
    const { labels, count } = masks.label(grids.where(contrast, (value) => value > limit));
    const sharp = grids.map(
      (a, b) => a - b,
      contrast,
      wideBlur(contrast, SOFT_EDGE * Math.min(contrast.height, contrast.width)),
    );
    const mass = new Float64Array(count + 1);
    const size = new Float64Array(count + 1);
    labels.values.forEach((label, place) => {
      mass[label] += Math.max(0, sharp.values[place]);
      size[label]++;
    });
    mass[0] = 0;
    return { contrast, labels, mass, size, boxes: masks.boxes(labels, count) };
  }

  // Of the labels, the one for which a value is largest.
  const most = (values) => values.reduce((best, value, label) => (value > values[best] ? label : best), 0);

  // The mean contrast of the heaviest piece, in which dark pixels count for more than soft edges.
  function measureDarkness({ contrast, labels, mass }) {
    const heaviest = most(mass);
    if (!heaviest) return 0;
    const values = contrast.values.filter((_, place) => labels.values[place] === heaviest);
    const sum = (total, value) => total + value;
    return values.reduce((total, value) => total + value * value, 0) / values.reduce(sum, 0);
  }

  const longer = ({ height, width }) => Math.max(height, width);

  // The heaviest piece, and the others that are near and heavy enough to be parts of a broken character.
  function aroundHeaviest({ mass, boxes }) {
    const heaviest = most(mass);
    const home = boxes[heaviest];
    const reach = 0.3 * longer(home);
    return [...boxes.keys()]
      .slice(1)
      .filter(
        (label) =>
          mass[label] >= 0.04 * mass[heaviest] &&
          boxes[label].top < home.bottom + reach &&
          boxes[label].bottom > home.top - reach &&
          boxes[label].left < home.right + reach &&
          boxes[label].right > home.left - reach,
      );
  }

  // The pieces of each digit; where there is a single digit, one list at most, and it need not be complete.
  function group({ labels, mass, size, boxes }) {
    const sharpness = mass.map((value, label) => value / Math.max(1, size[label]));
    const heavy = [...mass.keys()].slice(1).filter((label) => mass[label] >= LEAST_PART * Math.max(...mass));
    const sharpest = Math.max(...heavy.map((label) => sharpness[label]));
    const parts = heavy.filter((label) => sharpness[label] >= LEAST_SHARPNESS * sharpest);
    const upright = parts.filter((label) => boxes[label].width <= WIDEST * boxes[label].height);
    if (!upright.length) return [];
    const heaviest = upright.reduce((a, b) => (mass[b] > mass[a] ? b : a));
    const side = longer(boxes[heaviest]);
    const alone = upright.filter(
      (label) =>
        mass[label] >= LEAST_MASS * mass[heaviest] &&
        longer(boxes[label]) >= LEAST_SIDE * side &&
        boxes[label].height >= LEAST_HEIGHT * side,
    );
    const digits = new Map(alone.map((label) => [label, [label]]));
    if (digits.size < 2) return [...digits.values()];
    const loose = new Set(parts.filter((label) => !digits.has(label) && longer(boxes[label]) <= side));
    for (const [one, other, gap] of findGaps(grids.map((label) => (parts.includes(label) ? label : 0), labels))) {
      const [digit, part] = digits.has(one) ? [one, other] : [other, one];
      if (gap > WIDEST_BREAK * side || !digits.has(digit)) continue;
      if (loose.has(part) && !isDash(boxes[part], boxes[digit])) {
        digits.get(digit).push(part);
        loose.delete(part);
      } else if (
        digits.has(part) &&
        digits.get(part) !== digits.get(digit) &&
        belongTogether(boxes[part], boxes[digit])
      ) {
        const together = [...digits.get(digit), ...digits.get(part)];
        together.filter((label) => digits.has(label)).forEach((label) => digits.set(label, together));
      }
    }
    return [...new Set(digits.values())];
  }

  const overlap = (a, b, start, end) => Math.min(a[end], b[end]) - Math.max(a[start], b[start]);
  const inLine = (a, b) => overlap(a, b, "left", "right") >= 0.5 * Math.min(a.width, b.width);
  const isLevel = (a, b) => overlap(a, b, "top", "bottom") >= 0.5 * Math.min(a.height, b.height);
  const belongTogether = (a, b) => inLine(a, b) || !isLevel(a, b);

  function isDash(part, digit) {
    const level = Math.abs(part.top + part.bottom - digit.top - digit.bottom) < 0.5 * digit.height;
    return level && !inLine(part, digit);
  }

  // Pieces that have no other one between them, and the pixels that are; the narrowest gap first.
  function findGaps(labels) {
    const { squares, nearest } = masks.distances(grids.where(labels, (label) => !label));
    const owner = nearest.map((place) => labels.values[place]);
    const narrowest = new Map();
    const { height, width } = labels;
    for (let place = 0; place < owner.length; place++) {
      const beside = [place % width < width - 1 ? place + 1 : -1, place < (height - 1) * width ? place + width : -1];
      for (const other of beside.filter((each) => each >= 0 && owner[each] !== owner[place])) {
        const pair = [owner[place], owner[other]].sort((a, b) => a - b);
        const gap = Math.sqrt(squares[place]) + Math.sqrt(squares[other]);
        if (gap < (narrowest.get(`${pair}`)?.[2] ?? Infinity)) narrowest.set(`${pair}`, [...pair, gap]);
      }
    }
    return [...narrowest.values()].sort((a, b) => a[2] - b[2]);
  }

  // A character's own grey levels, as a share of the full ink around them, within a little more than its outline.
  function cutOut(wholeContrast, whole) {
    const box = masks.boxAround(whole);
    const side = longer(box);
    const margin = Math.max(2, grids.round(0.15 * side));
    const [top, left] = [Math.max(0, box.top - margin), Math.max(0, box.left - margin)];
    const height = Math.min(whole.height, box.bottom + margin) - top;
    const width = Math.min(whole.width, box.right + margin) - left;
    const [contrast, character] = [wholeContrast, whole].map((grid) => grids.crop(grid, top, left, height, width));
    const weight = grids.map((value, inside) => (inside ? Math.max(0, value) : 0), contrast, character);
    const reach = Math.max(1, 0.15 * side);
    const least = Math.fround(1e-6);
    const squares = wideBlur(
      grids.map((value) => value * value, weight),
      reach,
    );
    const full = grids.map((a, b) => a / Math.max(b, least), squares, wideBlur(weight, reach));
    const near = masks.dilate(character, Math.max(1, grids.round(0.04 * side)));
    const share = grids.map((value, all) => value / Math.max(all, least), contrast, full);
    return grids.map((value, inside) => (inside ? Math.min(Math.max(value, 0), 1) : 0), share, near);
  }

  // A wide Gaussian blur, computed on a small copy.
  function wideBlur(grid, sigma) {
    const step = Math.max(1, Math.trunc(sigma / 2));
    const small = grids.blur(grids.blockMeans(grid, step), sigma / step);
    return grids.resize(small, grid.height, grid.width, grids.filters.bilinear);
  }

  return { find };
})();
