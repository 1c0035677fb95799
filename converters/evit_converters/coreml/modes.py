"""What can be asked for: quantization, precision, deployment target; light to import."""

from __future__ import annotations

from enum import StrEnum

from evit_converters.errors import TargetError


class ComputePrecision(StrEnum):
    """Type of the values between the operations of an ML Program; the normalisation stays float32."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


class Quantization(StrEnum):
    """What a package's weights and activations are stored as.

    Attributes:
        NONE: float32.
        FP16: float16.
        INT8: float16 with int8 weights, one scale for each output channel.
        INT8_FULL: the same with int8 activations.
        PALETTE4: float16 with weights as indices of 4 bits into a table of 16 values.
        PALETTE6: float16 with weights as indices of 6 bits into a table of 64 values.
    """

    NONE = "none"
    FP16 = "fp16"
    INT8 = "int8"
    INT8_FULL = "int8-full"
    PALETTE4 = "palette4"
    PALETTE6 = "palette6"

    @property
    def precision(self) -> ComputePrecision:
        """The precision of the program that is quantized so."""
        return ComputePrecision.FLOAT32 if self is Quantization.NONE else ComputePrecision.FLOAT16


class DeploymentTarget(StrEnum):
    """The lowest iOS that a package is for. iPhone 11 (A13) runs iOS 13 to 26."""

    IOS15 = "iOS15"
    IOS16 = "iOS16"
    IOS17 = "iOS17"
    IOS18 = "iOS18"

    @property
    def specification_version(self) -> int:
        """Core ML's number for the file format of this iOS, 6 to 9."""
        return int(self.value.removeprefix("iOS")) - 9


def lowest_target(quantization: Quantization) -> DeploymentTarget:
    """The lowest iOS that runs a package quantized so."""
    if quantization in {Quantization.NONE, Quantization.FP16}:
        return DeploymentTarget.IOS15
    return DeploymentTarget.IOS17 if quantization is Quantization.INT8_FULL else DeploymentTarget.IOS16


def check_target(quantization: Quantization, target: DeploymentTarget) -> None:
    """Refuse what the target cannot run, instead of raising the target.

    Raises:
        TargetError: The quantization needs a later iOS.
    """
    lowest = lowest_target(quantization)
    if target.specification_version < lowest.specification_version:
        accepted = [t.value for t in DeploymentTarget if t.specification_version >= lowest.specification_version]
        possible = [q.value for q in Quantization if _runs(q, target)]
        raise TargetError(
            f"{quantization.value} given for {target.value}; it needs {', '.join(accepted)}, "
            f"and {target.value} accepts {', '.join(possible)}"
        )


def _runs(quantization: Quantization, target: DeploymentTarget) -> bool:
    return lowest_target(quantization).specification_version <= target.specification_version
