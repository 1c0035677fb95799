"""Any ``torch.nn.Module`` to an ML Program, by way of torch.export and coremltools."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from evit_converters.checks import check_module
from evit_converters.coreml.interface import INPUT_NAME, LABEL_NAME, Interface, OutputKind
from evit_converters.coreml.library import coremltools, working
from evit_converters.coreml.metadata import describe
from evit_converters.coreml.modes import ComputePrecision, DeploymentTarget, Quantization, lowest_target
from evit_converters.coreml.normalization import Scored, fold_into_convolution, image_scale
from evit_converters.coreml.program import Program
from evit_converters.errors import ExportError, ModuleError


def export(
    module: nn.Module,
    interface: Interface,
    *,
    precision: ComputePrecision = ComputePrecision.FLOAT16,
    target: DeploymentTarget | None = None,
) -> Program:
    """Convert an image classifier to an ML Program.

    Args:
        module: In eval mode, normalised float32 (1, 3, S, S) to logits (1, classes); left as it is.
        interface: The image, the labels, and what the package says of itself. S is ``interface.image_size``.
        precision: Type of the values between the operations.
        target: The lowest iOS; by default the lowest that can be had, iOS 15.

    Returns:
        A program whose input is an RGB image named ``image``. It normalises in float32 and answers with the
        label and probabilities (or logits). A parameter or buffer ``a.b`` is the constant ``p_module_a_b`` or
        ``b_module_a_b``, with ``_to_fp16`` behind it in float16; where coremltools folds BatchNorm into a weight,
        ``const_N``, the same N in both precisions.

    Raises:
        ModuleError: The module is in training mode, holds NaN or infinity, cannot run the image, or its classes
            are not as many as the labels.
        ExportError: torch.export or coremltools cannot convert it.
    """
    target = target or lowest_target(Quantization.NONE)
    example = torch.zeros(1, 3, interface.image_size, interface.image_size)
    check_module(module, example)
    _check_classes(module, example, interface)
    with working(ExportError, f"torch.export cannot trace {type(module).__name__}"):
        exported = _exported(module, example, interface)
    coremltools()
    with working(ExportError, f"coremltools cannot convert {type(module).__name__}"):
        model, beyond = _converted(exported, interface, precision, target)
    if beyond and precision is ComputePrecision.FLOAT16:
        raise ExportError(f"{beyond} holds values beyond float16's 65504; export in float32")
    quantization = Quantization.NONE if precision is ComputePrecision.FLOAT32 else Quantization.FP16
    describe(model, interface)
    return Program(interface, target, precision, quantization, model)


def _check_classes(module: nn.Module, example: Tensor, interface: Interface) -> None:
    with torch.no_grad():
        shape = tuple(module(example).shape)
    if len(shape) != 2 or shape[0] != 1:
        raise ModuleError(f"the module answers {shape} to one image; (1, classes) is needed")
    if interface.labels and len(interface.labels) != shape[1]:
        raise ModuleError(f"{len(interface.labels)} labels given for a module of {shape[1]} classes")


def _exported(module: nn.Module, example: Tensor, interface: Interface) -> Any:
    """The module as a graph of torch's basic operations, with the rest of the normalisation in its weights."""
    _, rest = image_scale(interface)
    softmax = interface.output_kind is OutputKind.PROBABILITIES
    with torch.no_grad():
        program = _decomposed(Scored(module, softmax=softmax), example)
        if fold_into_convolution(program, rest):
            return program
        return _decomposed(Scored(module, softmax=softmax, scale=rest), example)


def _decomposed(module: nn.Module, example: Tensor) -> Any:
    return torch.export.export(module.eval(), (example,)).run_decompositions({})


def _converted(
    exported: Any, interface: Interface, precision: ComputePrecision, target: DeploymentTarget
) -> tuple[Any, str | None]:
    """The model, and the name of a constant that float16 cannot hold."""
    ct = coremltools()
    from evit_converters.coreml.passes import beyond_float16, exact_pipeline

    scale, _ = image_scale(interface)
    bias = [-255 * mean * scale for mean in interface.mean]
    side = interface.image_size
    image = ct.ImageType(
        name=INPUT_NAME, shape=(1, 3, side, side), scale=scale, bias=bias, color_layout=ct.colorlayout.RGB
    )
    classifier = None
    if interface.labels and interface.output_kind is OutputKind.PROBABILITIES:
        classifier = ct.ClassifierConfig(list(interface.labels), predicted_feature_name=LABEL_NAME)
    name = None if classifier else interface.score_name
    model = ct.convert(
        exported,
        inputs=[image],
        outputs=[ct.TensorType(name=name, dtype=cast(Any, np.float32))],
        convert_to="mlprogram",
        minimum_deployment_target=ct.target[target.value],
        compute_precision=ct.precision[precision.name],
        classifier_config=classifier,
        pass_pipeline=exact_pipeline(),
        skip_model_load=True,
    )
    return model, beyond_float16(model)
