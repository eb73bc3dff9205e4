// A board to draw on with mouse, pen, finger or keys. `root` has a canvas, a mark for the pen, a slider for the width of
// strokes, and buttons to undo and to clear. `strokes` is kept by the caller, who is told by `changed` of each change.
function createBoard(root, strokes, changed) {
  const SIDE = 280; // pixels of the drawing
  const STEP = 8; // pixels that a key moves the pen
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  const canvas = root.querySelector("canvas");
  const pen = canvas.getContext("2d");
  const scale = canvas.width / SIDE;
  const mark = root.querySelector(".pen");
  const width = root.querySelector("input[type=range]");
  const [undo, clear] = ["undo", "clear"].map((name) => root.querySelector(`[data-do=${name}]`));
  let pointer = null; // the one that draws; a second finger does not

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

  // The drawing as a canvas, as small as it may be: what networks get is made of it.
  function shrink() {
    const small = document.createElement("canvas");
    small.width = small.height = SIDE;
    small.getContext("2d").drawImage(canvas, 0, 0, SIDE, SIDE);
    return small;
  }

  function change() {
    draw();
    changed();
  }

  function begin(point) {
    strokes.push({ width: Number(width.value), points: [point] });
    ink(strokes.at(-1), 0);
    undo.disabled = clear.disabled = false;
  }

  function goOn(points) {
    const stroke = strokes.at(-1);
    const first = stroke.points.length;
    stroke.points.push(...points);
    ink(stroke, first);
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (pointer !== null || event.button !== 0) return;
    event.preventDefault();
    lift();
    pointer = event.pointerId;
    canvas.setPointerCapture(pointer);
    begin(place(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pointer) return;
    // Between two frames a pen moves further than one line: the browser keeps the places that it passed.
    const passed = event.getCoalescedEvents?.() ?? [];
    goOn((passed.length ? passed : [event]).map(place));
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => {
      if (event.pointerId !== pointer) return;
      pointer = null;
      change();
    });
  }

  function takeBack() {
    strokes.pop();
    change();
  }

  function empty() {
    strokes.length = 0;
    change();
  }

  undo.addEventListener("click", takeBack);
  clear.addEventListener("click", empty);

  // The pen that keys move: where it is, and whether it is on the paper.
  let [x, y, isDown] = [SIDE / 2, SIDE / 4, false];
  const held = new Set();

  function showPen() {
    mark.style.left = `${(100 * x) / SIDE}%`;
    mark.style.top = `${(100 * y) / SIDE}%`;
    mark.classList.toggle("down", isDown);
  }

  function lift() {
    if (!isDown) return;
    isDown = false;
    held.clear();
    showPen();
    changed();
  }

  // All arrows that are held down count, so that two of them move the pen aslant.
  function movePen() {
    const directions = [...held].map((key) => ARROWS[key]);
    const clamp = (value) => Math.min(Math.max(value, 0), SIDE);
    x = clamp(x + STEP * directions.reduce((sum, [across]) => sum + across, 0));
    y = clamp(y + STEP * directions.reduce((sum, [, down]) => sum + down, 0));
    if (isDown) goOn([[x, y]]);
    showPen();
  }

  const keys = {
    " ": () => {
      if (isDown) return lift();
      isDown = true;
      begin([x, y]);
      showPen();
    },
    Backspace: () => strokes.length && (lift(), takeBack()),
    Delete: () => strokes.length && (lift(), empty()),
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || pointer !== null) return;
    if (event.key in ARROWS) {
      held.add(event.key);
      movePen();
    } else if (event.key in keys) {
      if (!event.repeat) keys[event.key]();
    } else return;
    event.preventDefault();
  });
  canvas.addEventListener("keyup", (event) => {
    if (held.delete(event.key) && isDown && !held.size) changed();
  });
  canvas.addEventListener("blur", lift);

  draw();
  showPen();
  return { shrink };
}
