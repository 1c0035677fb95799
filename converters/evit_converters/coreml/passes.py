"""Graph passes on coremltools' programs: weights into fewer bits, ranges for activations.

Imported only after :func:`evit_converters.coreml.library.coremltools`, which silences it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from coremltools.converters.mil.converter import mil_convert
from coremltools.converters.mil.frontend._utils import _construct_constexpr_lut_op
from coremltools.converters.mil.frontend.milproto import load
from coremltools.converters.mil.mil import Builder
from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
from coremltools.converters.mil.mil.passes.helper import block_context_manager
from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipeline
from coremltools.optimize._utils import QuantParams
from coremltools.optimize.coreml._quantization_passes import linear_quantize_weights

from evit_converters.coreml.encoding import int8_per_channel, palette

# The first turns multiply-add into batch_norm, and adds an epsilon to a variance that was exact: every value
# shrinks by up to 5e-6 of itself. The second negates a constant that is taken from a convolution in place, for
# all that read it and each time it runs: the constant is added instead.
INEXACT_PASSES = frozenset({"common::fuse_elementwise_to_batchnorm", "common::fuse_conv_bias"})

# What is left to do after a change: constants that nobody reads; equal constants, operations and names.
SWEEP = [
    "common::dead_code_elimination",
    "common::const_deduplication",
    "common::remove_redundant_ops",
    "common::dedup_op_and_var_names",
]

# Fewer elements are kept as they are: what a code saves in a small weight, its description costs.
WEIGHT_THRESHOLD = 2048
WEIGHTED = frozenset({"conv", "linear"})

Encoder = Callable[[Any], Any]


def exact_pipeline() -> Any:
    """Coremltools' passes without those that change the answer."""
    pipeline = PassPipeline()
    pipeline.remove_passes(INEXACT_PASSES)
    return pipeline


def loaded(model: Any, version: int) -> Any:
    """A copy of a model's program, for a specification of at least this version."""
    Builder.name_count.clear()  # it numbers new operations, and would go on from the last program
    specification = model.get_spec()
    return load.load(specification, max(version, specification.specificationVersion), model.weights_dir)


def transformed(model: Any, *passes: AbstractGraphPass) -> Any:
    """A model with passes applied to its program; the model is left as it is.

    coremltools' own way, ``_apply_graph_pass``, runs all default passes again, the inexact ones included. The
    program went through them when it was made: here only what nobody reads any longer is swept away.
    """
    specification = model.get_spec()
    version = specification.specificationVersion
    program = loaded(model, version)
    for graph_pass in passes:
        graph_pass(program)
    return mil_convert(
        program,
        convert_to="mlprogram",
        convert_from="milinternal",
        specification_version=version,
        compute_units=model.compute_unit,
        model_description=specification.description,
        pass_pipeline=PassPipeline(SWEEP, "sweep"),
        skip_model_load=True,
    )


def beyond_float16(model: Any) -> str | None:
    """Name of the first constant that does not fit float16; coremltools leaves what reads it in float32."""
    for operation in model._mil_program.functions["main"].operations:
        value = operation.outputs[0].val if operation.op_type == "const" else None
        if isinstance(value, np.ndarray | np.float32) and value.dtype == np.float32:
            size = np.abs(value)
            if np.any(np.isfinite(size) & (size > np.finfo(np.float16).max)):
                return str(operation.outputs[0].name)
    return None


class EncodeWeights(AbstractGraphPass):  # type: ignore[misc]  # coremltools has no types
    """Replace each weight of a convolution or linear layer by its encoding."""

    def __init__(
        self, encoder: Encoder, *, threshold: int = WEIGHT_THRESHOLD, exempt: frozenset[str] = frozenset()
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.threshold = threshold
        self.exempt = exempt

    def apply(self, program: Any) -> None:
        """Change the main function."""
        _encode(program.functions["main"], self.encoder, self.threshold, self.exempt)


@block_context_manager  # type: ignore[untyped-decorator]
def _encode(block: Any, encoder: Encoder, threshold: int, exempt: frozenset[str]) -> None:
    for constant in list(weights(block, threshold)):
        encoded = None if constant.outputs[0].name in exempt else encoder(constant)
        if encoded is not None:
            block.replace_uses_of_var_after_op(
                anchor_op=constant, old_var=constant.outputs[0], new_var=encoded, no_check_var_types=True
            )
            block.remove_ops([constant])


def weights(block: Any, threshold: int) -> Iterator[Any]:
    """The constants that are encoded: large, and read as weights by convolutions and linear layers alone."""
    for operation in block.operations:
        if operation.op_type == "const" and _is_weight(operation.outputs[0], threshold):
            yield operation


def _is_weight(value: Any, threshold: int) -> bool:
    tensor, readers = value.val, value.child_ops  # a list of labels is a constant, too
    if not isinstance(tensor, np.ndarray) or tensor.ndim < 2 or tensor.size < threshold:
        return False
    return bool(readers) and all(
        reader.op_type in WEIGHTED and reader.inputs["weight"] is value for reader in readers
    )


def int8_encoder(constant: Any) -> Any:
    """The operation that decodes int8 with a scale for each output channel; the weight's name, ``_quantized``."""
    codes, scale = int8_per_channel(constant.outputs[0].val)
    shaped = scale.reshape(-1, *[1] * (codes.ndim - 1))
    parameters = QuantParams(data=codes, scale=shaped, offset=None, nbits=np.uint8(8))
    return linear_quantize_weights._create_constexpr_var(constant, parameters)


def palette_encoder(bits: int) -> Encoder:
    """The same for a palette; the weight's name, ``_palettized``."""

    def encode(constant: Any) -> Any:
        found = palette(constant.outputs[0].val, bits)
        if found is None:
            return None
        indices, table = found
        shaped = table.reshape(*[1] * indices.ndim, -1, 1)
        name = f"{constant.name}_palettized"
        return _construct_constexpr_lut_op(indices, shaped, None, name=name, before_op=constant)

    return encode
