// Hands the drawing to the server whenever it changes; html/page/board.js stands above this, in one module.

const strokes = []; // kept while the visitor looks at other pages; this module is loaded once per visit
const boards = new WeakMap();

// Streamlit calls this again whenever it renders: the board is made once, what it calls is kept up to date.
export default function ({ parentElement, setStateValue }) {
  const known = boards.get(parentElement);
  if (known) {
    known.send = setStateValue;
    return;
  }
  const link = { send: setStateValue };
  boards.set(parentElement, link);
  const tell = () => link.send("drawing", strokes.length ? board.shrink().toDataURL("image/png") : "");
  const board = createBoard(parentElement, strokes, tell);
  if (strokes.length) tell();
}
