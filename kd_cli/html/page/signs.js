"use strict";

// Signs in a 28x28 image that what is drawn there is no digit: kd_cli/digits/signs.py, which says why.
const signs = (() => {
  const SIDE = 28;
  const INK = 100;
  const MOST_HOLES = 3;
  const MOST_SOLID = 20;
  const CORNER = 3 / 20;
  const NARROWEST = 8;

  const count = (mask) => mask.values.reduce((sum, value) => sum + value, 0);

  function looksLikeNoDigit(pixels) {
    const image = grids.where(grids.make(SIDE, SIDE, pixels), (value) => value > INK);
    const ink = grids.crop(image, -1, -1, SIDE + 2, SIDE + 2);
    if (!count(ink)) return true;
    const paper = grids.where(ink, (value) => !value);
    const holes = masks.label(paper, false).count - 1;
    const solid = count(grids.where(masks.dilate(paper, 2), (value) => !value));
    return countEnclosed(ink) > 1 || holes > MOST_HOLES || solid > MOST_SOLID || fillsCorners(ink);
  }

  // Pixels of ink that the largest piece of ink goes round.
  function countEnclosed(ink) {
    const { labels, count: pieces } = masks.label(ink);
    const sizes = new Array(pieces + 1).fill(0);
    labels.values.forEach((label) => label && sizes[label]++);
    const largest = sizes.indexOf(Math.max(...sizes));
    const around = masks.label(
      grids.where(labels, (label) => label !== largest),
      false,
    ).labels;
    return count(
      grids.where(ink, (value, place) => value && labels.values[place] !== largest && around.values[place] !== 1),
    );
  }

  function fillsCorners(ink) {
    const { top, left, bottom, right, height, width } = masks.boxAround(ink);
    if (Math.min(height, width) <= NARROWEST) return false;
    const [rows, columns] = [height, width].map((side) => Math.max(1, grids.round(side * CORNER)));
    return [top, bottom - rows].every((y) =>
      [left, right - columns].every((x) => count(grids.crop(ink, y, x, rows, columns))),
    );
  }

  return { looksLikeNoDigit };
})();
