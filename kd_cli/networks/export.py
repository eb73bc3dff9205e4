"""Networks as files that other programs run: ONNX, which needs the extra "export", and pt2, of ``torch.export``."""

import contextlib
import copy
import io
import logging
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kd_cli.config import KdError, Precision
from kd_cli.networks.classifier import Classifier, count_parameters
from kd_cli.networks.metadata import Metadata
from kd_cli.networks.onnx_file import INPUT, METADATA_KEY, OUTPUT, PROVIDER, Description
from kd_cli.networks.onnx_graph import fold_normalisation
from kd_cli.networks.zoo import one_line
from kd_cli.version import __version__

if TYPE_CHECKING:
    import onnx
    from torch.export import ExportedProgram

EXAMPLE_IMAGES = 2
"""Of one image, an exporter takes the number of images for a constant."""

OF_FILES = ("teachers", "init")
"""Options of a training run that name files. An exported file is given away, and others need not see whose it was."""

PT2_DESCRIPTION = f"{METADATA_KEY}.json"
"""What a pt2 file calls its description: see ``extra_files`` of ``torch.export.load``."""


class _Cast(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.dtype)


def describe(classifier: Classifier, metadata: Metadata, precision: Precision) -> Description:
    """What a file with this network is to say of itself: what its checkpoint does, but for the folders of files."""
    options = {name: _strip_folders(value) if name in OF_FILES else value for name, value in metadata.options.items()}
    return Description(replace(metadata, options=options), precision, count_parameters(classifier), classifier.macs)


def _strip_folders(paths: Any) -> Any:
    return [Path(str(path)).name for path in paths] if isinstance(paths, list) else Path(str(paths)).name


def export_onnx(classifier: Classifier, metadata: Metadata, path: Path, half: bool = False) -> None:
    """Write a network as one ONNX file, which takes ``pixels`` from 0 to 1, (N, C, H, W), and gives ``logits``.

    Normalisation and the order of the classes are part of the graph, and N may be any number.

    Args:
        classifier: in evaluation mode, on the CPU.
        metadata: what the file says of itself, see `Description`.
        path: the file; what it computes is not checked here.
        half: compute in 16 bits; input, normalisation and output stay as they are.

    Raises:
        KdError: the extra "export" is missing; the network cannot be traced for any number of images, or has an
            operator that ONNX has not.
    """
    require_extra()
    program = trace(halve(classifier) if half else classifier, metadata.architecture)
    with quiet(), explained(f"{metadata.architecture} cannot be written as ONNX", "replace that, or use --format pt2"):
        exported = torch.onnx.export(
            program, (), dynamo=True, external_data=False, input_names=[INPUT], output_names=[OUTPUT], verbose=False
        )
    assert exported is not None  # it is None only without dynamo
    model = exported.model_proto  # made anew each time
    fold_normalisation(model)
    save_model(model, describe(classifier, metadata, Precision.float16 if half else Precision.float32), path)


def save_model(model: "onnx.ModelProto", description: Description, path: Path) -> None:
    """Write an ONNX model with its description, and without the exporter's notes, which name files of this machine."""
    import onnx

    graph = model.graph
    for each in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        each.ClearField("metadata_props")
    model.producer_name, model.producer_version = "kd", __version__
    onnx.helper.set_model_props(model, {METADATA_KEY: description.to_json()})
    path.write_bytes(model.SerializeToString())


def export_pt2(classifier: Classifier, metadata: Metadata, path: Path, half: bool = False) -> None:
    """Write a network as ``torch.export.load`` reads it; otherwise as `export_onnx`.

    Raises:
        KdError: the network cannot be traced for any number of images.
    """
    from torch import export

    program = trace(halve(classifier) if half else classifier, metadata.architecture)
    description = describe(classifier, metadata, Precision.float16 if half else Precision.float32)
    with quiet(), explained(f"{metadata.architecture} cannot be written as pt2", "use ONNX"):
        export.save(program, path, extra_files={PT2_DESCRIPTION: description.to_json()})


def load_pt2(path: Path) -> Callable[[Tensor], Tensor]:
    """Pixels -> logits, by a file that `export_pt2` has just written: reading one of somebody else's may run code."""
    from torch import export

    with quiet():
        module: Callable[[Tensor], Tensor] = export.load(path).module()
    return module


def is_our_pt2(path: Path) -> bool:
    """Whether `export_pt2` wrote a file, as far as the names in it tell."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(f"/extra/{PT2_DESCRIPTION}") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def trace(classifier: Classifier, architecture: str) -> "ExportedProgram":
    """The operations of a network for any number of images.

    Raises:
        KdError: they depend on that number, or on the values of the pixels.
    """
    from torch import export

    example = torch.zeros(EXAMPLE_IMAGES, *classifier.shape)
    what, advice = "cannot be traced for any number of images", "let it depend neither on that nor on pixels"
    with quiet(), explained(f"{architecture} {what}", advice):
        program = export.export(classifier.eval(), (example,), dynamic_shapes=({0: export.Dim("batch")},), strict=False)
    program.example_inputs = None
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names files of this machine
    return program


def halve(classifier: Classifier) -> Classifier:
    """A copy that computes in 16 bits, but for the normalisation; logits have 32 bits again."""
    network = nn.Sequential(_Cast(torch.half), copy.deepcopy(classifier.network).half(), _Cast(torch.float))
    mean, std = (tuple(each.flatten().tolist()) for each in (classifier.mean, 1 / classifier.inverse_std))
    order = None if classifier.order is None else tuple(classifier.order.tolist())
    return Classifier(network, mean, std, classifier.shape, order).eval()


def require_extra() -> None:
    """Refuse to write ONNX without its libraries, before anything slow.

    Raises:
        KdError: one of them is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise KdError("ONNX needs the extra export: pip install 'kd-cli[export]', or use --format pt2") from error


def require_survivable(path: Path) -> None:
    """Refuse an ONNX file that ONNX Runtime crashes on, as it does on some networks in 16 bits, in another process.

    Raises:
        KdError: it crashes.
    """
    open_it = "import sys, onnxruntime; onnxruntime.InferenceSession(sys.argv[1], providers=sys.argv[2:])"
    ended = subprocess.run([sys.executable, "-c", open_it, path, PROVIDER], capture_output=True, check=False)
    if ended.returncode < 0 or ended.returncode > 1:  # 1 is an error, which says more where it is raised again
        raise KdError("ONNX Runtime crashes when it opens this network: leave out --half, or use --format pt2")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Exporters print and log what goes wrong, at length; their exceptions say enough."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    sink: Any = io.StringIO()
    try:
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def explained(what: str, advice: str) -> Iterator[None]:
    """Errors of an exporter, or of a user's network in it, as one line: what cannot be done, why, and what to do."""
    try:
        yield
    except Exception as error:  # of many kinds
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise KdError(f"{what} ({one_line(cause)}): {advice}") from error
