"use strict";

// Masks: their connected pieces, and what is near them.
const masks = (() => {
  // The connected pieces of a mask, numbered from 1: {labels, count}. Pixels that touch at a corner are connected, too,
  // if `diagonal`.
  function label({ height, width, values }, diagonal = true) {
    const labels = grids.make(height, width, new Int32Array(values.length));
    const open = [];
    let count = 0;
    const visit = (x, y) => {
      const place = y * width + x;
      if (x < 0 || y < 0 || x >= width || y >= height || !values[place] || labels.values[place]) return;
      labels.values[place] = count;
      open.push(place);
    };
    for (let start = 0; start < values.length; start++) {
      if (!values[start] || labels.values[start]) continue;
      count++;
      visit(start % width, Math.floor(start / width));
      while (open.length) {
        const place = open.pop();
        const x = place % width;
        const y = (place - x) / width;
        for (let down = -1; down <= 1; down++)
          for (let across = -1; across <= 1; across++) if (diagonal || !down || !across) visit(x + across, y + down);
      }
    }
    return { labels, count };
  }

  // The box around each of the pieces that are numbered from 1: from `top` and `left` on, `height` x `width`.
  function boxes({ height, width, values }, count) {
    const found = Array.from({ length: count + 1 }, () => ({ top: height, left: width, bottom: 0, right: 0 }));
    values.forEach((label, place) => {
      if (!label) return;
      const box = found[label];
      const y = Math.floor(place / width);
      const x = place % width;
      box.top = Math.min(box.top, y);
      box.left = Math.min(box.left, x);
      box.bottom = Math.max(box.bottom, y + 1);
      box.right = Math.max(box.right, x + 1);
    });
    return found.map((box) => ({ ...box, height: box.bottom - box.top, width: box.right - box.left }));
  }

  const boxAround = (mask) => boxes(mask, 1)[1];

  // How far each pixel that is not 0 is from the nearest one that is 0, squared; and where that one is.
  function distances({ height, width, values }) {
    const far = height + width; // further than any
    const vertical = new Float64Array(values.length).fill(far);
    const inColumn = new Int32Array(values.length);
    for (let x = 0; x < width; x++) {
      for (const step of [1, -1]) {
        let distance = far;
        let from = 0;
        for (let y = step === 1 ? 0 : height - 1; y >= 0 && y < height; y += step) {
          const place = y * width + x;
          distance = values[place] ? distance + 1 : 0;
          if (!distance) from = place;
          if (distance >= vertical[place]) continue;
          vertical[place] = distance;
          inColumn[place] = from;
        }
      }
    }
    const squares = new Float64Array(values.length);
    const nearest = new Int32Array(values.length);
    for (let place = 0; place < values.length; place++) {
      const x = place % width;
      let best = Infinity;
      const compare = (there, away) => {
        const square = away * away + vertical[there] * vertical[there];
        if (square >= best) return;
        best = square;
        nearest[place] = inColumn[there];
      };
      for (let away = 0; away < width && away * away < best; away++) {
        if (away <= x) compare(place - away, away);
        if (away < width - x) compare(place + away, away);
      }
      squares[place] = best;
    }
    return { squares, nearest };
  }

  // Adds all that is up to `reach` pixels away, also diagonally.
  function dilate(mask, reach = 1) {
    let grown = mask;
    for (let axis = 0; axis < 2; axis++) {
      const { height, width, values } = grown;
      const wider = grids.makeMask(height, width);
      values.forEach((value, place) => {
        if (!value) return;
        const x = place % width;
        wider.values.fill(1, place - Math.min(reach, x), place + Math.min(reach, width - 1 - x) + 1);
      });
      grown = grids.transpose(wider);
    }
    return grown;
  }

  return { label, boxes, boxAround, distances, dilate };
})();
