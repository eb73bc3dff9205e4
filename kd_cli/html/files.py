"""The files that pages are made of, and ONNX Runtime's for browsers, as they lie in the package."""

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("page")

RUNTIME = Path(__file__).with_name("vendor") / "onnxruntime-web"
"""What its README.md describes."""

WASM = "ort-wasm-simd-threaded.wasm.gz"


@cache
def read_text(name: str) -> str:
    """A file of the page."""
    return (PAGE / name).read_text(encoding="utf-8")


def read_page() -> dict[str, bytes]:
    """The page without its networks: what each file of its folder is called, and holds."""
    index = read_text("index.html").replace("<!-- board.html -->", read_text("board.html"))
    files = {path.name: path.read_bytes() for path in PAGE.iterdir() if path.suffix in (".css", ".js")}
    return files | {"index.html": index.encode()} | _read_runtime()


def _read_runtime() -> dict[str, bytes]:
    """The runtime's script, and one with the files that it would fetch.

    Browsers let a page that was opened from a disk fetch nothing. So the WebAssembly comes as text, and packed: 5 MB
    rather than 19.
    """
    glue = (RUNTIME / "ort-wasm-simd-threaded.mjs").read_text(encoding="utf-8")
    return {
        "ort.wasm.min.js": (RUNTIME / "ort.wasm.min.js").read_bytes(),
        "runtime.js": as_script("RUNTIME", {"glue": glue, "wasm": as_text((RUNTIME / WASM).read_bytes())}),
        "LICENSE-onnxruntime-web": (RUNTIME / "LICENSE").read_bytes(),
    }


def as_script(name: str, value: Any) -> bytes:
    """A script that has a value, of what JSON has, as a constant."""
    return f"const {name} = {json.dumps(value, allow_nan=False)};\n".encode()


def as_text(content: bytes) -> str:
    """Bytes as a script can have them: base64."""
    return base64.b64encode(content).decode()
