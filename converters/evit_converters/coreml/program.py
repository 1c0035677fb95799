"""A converted program, between export, quantization and saving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evit_converters.coreml.interface import Interface
from evit_converters.coreml.modes import ComputePrecision, DeploymentTarget, Quantization


@dataclass(frozen=True)
class Program:
    """An ML Program with its weights, not yet saved.

    Attributes:
        interface: What it says of itself.
        target: The lowest iOS that it is for.
        precision: Type of the values between its operations.
        quantization: How its weights and activations are stored.
        model: coremltools' MLModel, whose weights lie in a temporary folder.
    """

    interface: Interface
    target: DeploymentTarget
    precision: ComputePrecision
    quantization: Quantization
    model: Any
