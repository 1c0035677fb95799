"""What each MIL operation computes, on torch; importing this package fills the table of operations."""

from evit_edge.runtime.coreml.ops import (  # noqa: F401  importing them registers their operations
    activation,
    convolution,
    elementwise,
    gathering,
    joining,
    linear,
    normalization,
    pooling,
    quantization,
    reduction,
    resizing,
    shape,
    slicing,
)
from evit_edge.runtime.coreml.ops.registry import OPERATIONS, Argument, Batching, Call, Implementation

__all__ = ["OPERATIONS", "Argument", "Batching", "Call", "Implementation"]
