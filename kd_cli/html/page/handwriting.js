"use strict";

// A drawing or an image -> the 28x28 image that MNIST's makers would have made of it: kd_cli/digits/mnist_format.py.
const handwriting = (() => {
  const IMAGE_SIZE = 28;
  const INK_BOX = 20;
  const INK_LEVEL = 0.25;
  const STROKES = [1.8, 3.0];
  const FINE_SIDES = [80, 240];

  const clamp = (value, least, most) => Math.min(Math.max(value, least), most);

  // Values from 0 to 1 in an image's three colours -> {bytes: Uint8Array of 784, count}; null where it is blank.
  function read(page, areDigits) {
    const found = ink.find(page, areDigits);
    return found && { bytes: likeMnist(found.values), count: found.count };
  }

  function likeMnist(values) {
    const cropped = cropToInk(values);
    const side = Math.trunc(clamp(Math.max(cropped.height, cropped.width), ...FINE_SIDES));
    const scaled = fit(cropToInk(normaliseStrokes(fit(cropped, side))), INK_BOX);
    const top = corner(rowSums(scaled));
    const left = corner(rowSums(grids.transpose(scaled)));
    const placed = grids.crop(scaled, -top, -left, IMAGE_SIZE, IMAGE_SIZE);
    return Uint8Array.from(placed.values, (value) => grids.round(Math.fround(value * 255)));
  }

  function cropToInk(values) {
    const level = Math.fround(INK_LEVEL * grids.largest(values));
    const { top, left, height, width } = masks.boxAround(grids.where(values, (value) => value > level));
    return grids.crop(values, top, left, height, width);
  }

  // Scales with its proportions, so that the longer side is `side` pixels.
  function fit(values, side) {
    const scale = side / Math.max(values.height, values.width);
    const [height, width] = [values.height, values.width].map((length) => Math.max(1, grids.round(length * scale)));
    const resized = grids.resize(values, height, width, scale < 1 ? grids.filters.box : grids.filters.bicubic);
    return grids.map((value) => clamp(value, 0, 1), resized);
  }

  // Makes strokes that are thinner or thicker than MNIST's thicker or thinner, by moving the ink's outline.
  function normaliseStrokes(given) {
    const unit = Math.max(given.height, given.width) / INK_BOX;
    const room = grids.round(unit * STROKES[0]);
    const values = grids.crop(given, -room, -room, given.height + 2 * room, given.width + 2 * room);
    const half = Math.fround(0.5 * grids.largest(values));
    const inside = grids.where(values, (value) => value > half);
    const depth = masks.distances(inside).squares.map(Math.sqrt);
    const outside = masks.distances(grids.where(inside, (value) => !value)).squares.map(Math.sqrt);
    const depths = depth.filter((_, place) => inside.values[place]);
    const width = (4 * (depths.reduce((sum, value) => sum + value, 0) / depths.length - 0.5)) / unit;
    const target = clamp(width, ...STROKES);
    if (target === width) return values;
    const outline = depth.map((value, place) => (inside.values[place] ? value - 0.5 : 0.5 - outside[place]) / unit);
    return grids.make(
      values.height,
      values.width,
      Float32Array.from(outline, (value) => clamp(value + (target - width) / 2 + 0.5, 0, 1)),
    );
  }

  const rowSums = ({ height, width, values }) =>
    Array.from({ length: height }, (_, y) =>
      values.subarray(y * width, (y + 1) * width).reduce((sum, value) => sum + value, 0),
    );

  // Where to start along one axis, so that the centre of mass comes to the middle pixel and nothing is cut off.
  function corner(mass) {
    const total = mass.reduce((sum, value) => sum + value, 0);
    const centre = mass.reduce((sum, value, place) => sum + (place + 0.5) * value, 0) / total;
    return clamp(grids.round((IMAGE_SIZE + 1) / 2 - Math.round(centre * 1e5) / 1e5), 0, IMAGE_SIZE - mass.length);
  }

  return { read };
})();
