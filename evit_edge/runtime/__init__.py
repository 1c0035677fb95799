"""Running models: one :class:`Runner` whatever the engine, behind one door, :func:`open_runner`.

Of files from elsewhere, :func:`evit_edge.runtime.isolated.open_isolated` makes a runner in a process of its own.
"""

from evit_edge.runtime.engines import delegate_partitions, installed_engines
from evit_edge.runtime.info import ModelInfo, Runner
from evit_edge.runtime.opening import open_runner, read_labels
from evit_edge.runtime.pixels import InputRange
from evit_edge.tensors import Layout, OutputKind, TensorSpec, centred_logits, probabilities

__all__ = [
    "InputRange",
    "Layout",
    "ModelInfo",
    "OutputKind",
    "Runner",
    "TensorSpec",
    "centred_logits",
    "delegate_partitions",
    "installed_engines",
    "open_runner",
    "probabilities",
    "read_labels",
]
