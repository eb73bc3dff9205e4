// A canvas that hands its image to the server whenever a stroke ends.

const SIDE = 280; // pixels of the image that is sent
const strokes = []; // kept while the visitor looks at other pages; this module is loaded once per visit
const boards = new WeakMap();

// Streamlit calls this again whenever it renders: listeners are attached once, what they call is kept up to date.
export default function ({ parentElement, setStateValue }) {
  let board = boards.get(parentElement);
  if (!board) {
    board = set_up(parentElement);
    boards.set(parentElement, board);
    board.send = setStateValue;
    board.draw();
    if (strokes.length) board.tell();
  }
  board.send = setStateValue;
}

function set_up(root) {
  const canvas = root.querySelector("canvas");
  const pen = canvas.getContext("2d");
  const scale = canvas.width / SIDE;
  const width = root.querySelector("input");
  const [undo, clear] = ["undo", "clear"].map((name) => root.querySelector(`[data-do=${name}]`));
  let pointer = null; // the one that draws; a second finger does not

  const board = { send: null, draw, tell };

  function draw() {
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    strokes.forEach((stroke) => ink(stroke, 0));
    undo.disabled = clear.disabled = strokes.length === 0;
  }

  // Draws a stroke from its point number `first` on.
  function ink(stroke, first) {
    pen.strokeStyle = pen.fillStyle = "#000";
    pen.lineWidth = stroke.width * scale;
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    stroke.points.slice(Math.max(0, first - 1)).forEach(([x, y]) => pen.lineTo(x * scale, y * scale));
    if (stroke.points.length === 1) pen.lineTo(stroke.points[0][0] * scale, stroke.points[0][1] * scale);
    pen.stroke();
  }

  // One image, as small as it may be: what is sent is what the networks get.
  function tell() {
    if (!strokes.length) return board.send("drawing", "");
    const small = document.createElement("canvas");
    small.width = small.height = SIDE;
    small.getContext("2d").drawImage(canvas, 0, 0, SIDE, SIDE);
    board.send("drawing", small.toDataURL("image/png"));
  }

  function change() {
    draw();
    tell();
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (pointer !== null || event.button !== 0) return;
    event.preventDefault();
    pointer = event.pointerId;
    canvas.setPointerCapture(pointer);
    strokes.push({ width: Number(width.value), points: [place(event)] });
    ink(strokes.at(-1), 0);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pointer) return;
    const stroke = strokes.at(-1);
    const first = stroke.points.length;
    // Between two frames a pen moves further than one line: the browser keeps the places that it passed.
    const passed = event.getCoalescedEvents?.() ?? [];
    stroke.points.push(...(passed.length ? passed : [event]).map(place));
    ink(stroke, first);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => {
      if (event.pointerId !== pointer) return;
      pointer = null;
      change();
    });
  }
  undo.addEventListener("click", () => {
    strokes.pop();
    change();
  });
  clear.addEventListener("click", () => {
    strokes.length = 0;
    change();
  });
  return board;
}
