"""Networks in several runtimes: each is exported, loaded, checked and measured. For ``kd benchmark --runtimes``."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from kd_cli.commands.checkpoints import load_network
from kd_cli.commands.export import CPU, write_draft
from kd_cli.commands.network_files import describe_model
from kd_cli.commands.results import FailedRun, RuntimeResult
from kd_cli.config import ExportConfig, KdError, Precision, RunConfig, Runtime
from kd_cli.data.dataset import Dataset
from kd_cli.evaluation.cost import Open, measure_load, measure_speeds
from kd_cli.evaluation.quality import measure_accuracy
from kd_cli.networks.checkpoint import Checkpoint
from kd_cli.networks.export import explained, quiet
from kd_cli.networks.onnx_file import OnnxNetwork
from kd_cli.networks.runtimes import Runnable, make_compiled, make_runnable, many_compiled

LOADS = 5
"""Times that a network is loaded, but for compilers, which keep what they did."""
