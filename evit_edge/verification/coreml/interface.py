"""Gates on what a package says of itself: the image it takes, the classes it names, the system it is for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from evit_edge.runtime.coreml.interface import ColorOrder
from evit_edge.runtime.coreml.package import Package
from evit_edge.tensors import OutputKind
from evit_edge.verification.coreml.program import Prepared, ProgramView
from evit_edge.verification.gates import Gate

INPUT_SIZE = "input size"
_ROUNDING = 4 * 2.0**-24
"""A few roundings of float32, in which coremltools keeps scale and bias."""
_FIRST_SPECIFICATION = 9
"""iOS 15 has specification 6, and each later one the next."""


@dataclass(frozen=True)
class Claims:
    """What a package has to say of itself; what is None is not required.

    Attributes:
        labels: Names of the classes, in order; empty for a package without.
        output_kind: Softmax inside, or logits.
        specification_version: 6 for iOS 15 to 9 for iOS 18.
        labels_of: Where the labels were taken from, for messages.
    """

    labels: Sequence[str] | None = None
    output_kind: OutputKind | None = None
    specification_version: int | None = None
    labels_of: str = "source"


@dataclass(frozen=True)
class Normalization:
    """The normalisation that a source expects, and what a program does of it before its first weights.

    Attributes:
        mean: Of R, G and B, of values scaled to 0..1; float64 (3,).
        std: The same.
    """

    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]

    @property
    def scale(self) -> npt.NDArray[np.float64]:
        """One factor for all colours, as a Core ML image has it; the rest of each colour's goes into weights."""
        return np.full(3, 1 / (255 * self.std.mean()))

    def found(self, view: ProgramView) -> Prepared:
        """The last point of the preparation that is this normalisation, up to a factor for each colour.

        Where none is, the point before the first weights: that is what is wrong.
        """
        wanted = (self.scale, 1 / (255 * self.std))
        for step in reversed(view.prepared):
            if any(_near(step.scale, scale) and _near(step.bias, self.bias(step.scale)) for scale in wanted):
                return step
        return view.prepared[-1]

    def bias(self, scale: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """What has to be added to a pixel that was multiplied by a scale."""
        return -255 * self.mean * scale

    def preparing(self, view: ProgramView) -> frozenset[str]:
        """The image and what becomes of it until it is normalised, up to a factor for each colour."""
        last = view.prepared.index(self.found(view))
        return frozenset(step.value for step in view.prepared[: last + 1])

    def exact(self, view: ProgramView) -> dict[str, Tensor]:
        """The constants of scale and bias, by name, as they were before they were rounded to float32.

        A scale that leaves a part of the normalisation to weights stays as it is: they were made to go with it.
        """
        step, full = self.found(view), 1 / (255 * self.std)
        if not _near(step.bias, self.bias(step.scale)):
            return {}
        exact: dict[str, Tensor] = {}
        scale = np.ones(3)
        for name in (taken.value for taken in view.prepared[1 : view.prepared.index(step) + 1]):
            operation = view.producers[name]
            found = view.colour_constant(operation)
            if found is None or operation.type not in ("mul", "add"):
                continue
            constant, stored = found
            if operation.type == "mul":
                factor = full / scale if _near(scale * stored, full) else stored
                scale = scale * factor
            else:
                factor = self.bias(scale)
            exact[constant] = view.as_constant(constant, factor)
        return exact

    def remaining(self, step: Prepared) -> npt.NDArray[np.float64]:
        """What the weights that read the image have to be multiplied by, float64 (3,)."""
        full = 1 / (255 * self.std)
        return np.ones(3) if _near(step.scale, full) else full / step.scale


def interface_gates(
    view: ProgramView, image_size: int, normalization: Normalization, claims: Claims
) -> list[Gate]:
    """All gates of the interface that need no image."""
    image, step = view.image, normalization.found(view)
    order = image.color_order
    gates = [
        Gate.check("colour order", order is ColorOrder.RGB, order.value, "RGB"),
        Gate.check(
            INPUT_SIZE,
            (image.width, image.height) == (image_size, image_size),
            f"{image.width}x{image.height}",
            f"{image_size}x{image_size}",
        ),
        *_normalization_gates(step, normalization),
    ]
    return [*gates, *_labels(view, claims), *_versions(view, claims)]


def _normalization_gates(step: Prepared, normalization: Normalization) -> list[Gate]:
    full = 1 / (255 * normalization.std)
    wanted = full if np.ptp(step.scale) and not _near(normalization.scale, full) else normalization.scale
    bias = normalization.bias(step.scale)
    swapped = "; R and B are swapped" if not _near(step.bias, bias) and _near(step.bias, bias[::-1]) else ""
    return [
        Gate.check("scale", _near(step.scale, wanted), _shown(step.scale), _shown(wanted)),
        Gate.check("bias", _near(step.bias, bias), _shown(step.bias) + swapped, _shown(bias)),
    ]


def _labels(view: ProgramView, claims: Claims) -> list[Gate]:
    """Of the classifier, and of the metadata: an array of logits has no other place for them."""
    if claims.labels is None:
        return [Gate.skip("labels", f"the {claims.labels_of} names no classes", "the source's, in its order")]
    wanted, carried = tuple(claims.labels), carried_labels(view.package)
    places = {"labels": view.package.labels, "labels of the metadata": carried}
    if claims.output_kind is OutputKind.LOGITS and view.package.labels is None:
        places = {"labels": carried}
    elif carried is None:
        places.pop("labels of the metadata")
    required = f"the {claims.labels_of}'s {len(wanted)}, in its order"
    return [_same_labels(name, tuple(found or ()), wanted, required) for name, found in places.items()]


def carried_labels(package: Package) -> tuple[str, ...] | None:
    """Labels in a package's metadata; None where there are none."""
    try:
        labels = json.loads(package.user_defined.get("labels", "null"))
        return tuple(str(label) for label in labels) if labels else None
    except (ValueError, TypeError):
        return ("no JSON list",)


def _same_labels(name: str, found: tuple[str, ...], wanted: tuple[str, ...], required: str) -> Gate:
    if found == wanted:
        return Gate.check(name, True, f"{len(found)}, in order", required)
    if len(found) != len(wanted):
        return Gate.check(name, False, str(len(found)), required)
    first = next(i for i, pair in enumerate(zip(found, wanted, strict=True)) if pair[0] != pair[1])
    order = "the same names in another order" if sorted(found) == sorted(wanted) else "other names"
    measured = f"{order}; the first at class {first}: {found[first]!r} instead of {wanted[first]!r}"
    return Gate.check(name, False, measured, required)


def _versions(view: ProgramView, claims: Claims) -> list[Gate]:
    found = view.package.specification_version
    if claims.specification_version is None:
        return [Gate.skip("specification", f"{found}; no deployment target is stated", "the target's")]
    wanted = claims.specification_version
    measured = f"{found} with operations of {view.package.opset}"
    required = f"{wanted} (iOS {wanted + _FIRST_SPECIFICATION}), operations no later"
    fits = found == wanted and int(view.package.opset.removeprefix("iOS")) <= wanted + _FIRST_SPECIFICATION
    return [Gate.check("specification", fits, measured, required)]


def _near(values: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> bool:
    return bool(np.all(np.abs(values - wanted) <= _ROUNDING * np.abs(wanted).max() + 1e-12))


def _shown(values: npt.NDArray[np.float64]) -> str:
    return f"{values[0]:.7g}" if np.ptp(values) == 0 else ", ".join(f"{value:.7g}" for value in values)
