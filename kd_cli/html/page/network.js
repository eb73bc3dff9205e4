"use strict";

// Networks in this page, run by ONNX Runtime. Nothing is fetched: scripts brought the networks and the runtime, so that
// the page also works where it was opened from a disk.
const network = (() => {
  let sessions = null;

  function fromBase64(text) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const binary = atob(text);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
    return bytes;
  }

  async function unzip(bytes) {
    const unzipped = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(unzipped).arrayBuffer();
  }

  // Starts the runtime and opens all networks; later calls wait for the first.
  function open() {
    sessions ??= (async () => {
      ort.env.wasm.numThreads = 1; // more need headers that a plain server does not send
      ort.env.wasm.wasmBinary = await unzip(fromBase64(RUNTIME.wasm));
      ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([RUNTIME.glue], { type: "text/javascript" })) };
      const opened = [];
      for (const { onnx } of PAGE.networks) opened.push(await ort.InferenceSession.create(fromBase64(onnx)));
      return opened;
    })();
    return sessions;
  }

  function softmax(logits, temperature) {
    const most = Math.max(...logits);
    const powers = Array.from(logits, (logit) => Math.exp((logit - most) / temperature));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((power) => power / sum);
  }

  // The cosine between logits and the nearest direction: kd_cli/evaluation/typical.py.
  function likeness(logits, directions) {
    const mean = logits.reduce((a, b) => a + b, 0) / logits.length;
    const centred = Array.from(logits, (logit) => logit - mean);
    const cosines = directions.map((direction) => direction.reduce((sum, value, i) => sum + value * centred[i], 0));
    return Math.max(...cosines) / Math.hypot(...centred);
  }

  // Bytes, channel by channel -> each network's prediction: {role, best, probabilities, isUnlike}.
  async function predict(bytes) {
    const input = Float32Array.from(bytes, (value) => value * Math.fround(1 / 255));
    const opened = await open();
    const predictions = [];
    for (const [i, { role, temperature, typical }] of PAGE.networks.entries()) {
      const { logits } = await opened[i].run({ pixels: new ort.Tensor("float32", input, [1, ...PAGE.shape]) });
      const probabilities = softmax(logits.data, temperature ?? 1);
      const best = probabilities.indexOf(Math.max(...probabilities));
      const isUnlike = typical === null ? null : likeness(logits.data, typical.directions) < typical.least;
      predictions.push({ role, best, probabilities, isUnlike });
    }
    return predictions;
  }

  return { open, predict };
})();
