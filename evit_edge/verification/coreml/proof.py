"""The proof: a saved package computes what a network in torch computes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from evit_edge.runtime.coreml.package import Package, read_package
from evit_edge.runtime.coreml.runner import REMARK, RUNTIME
from evit_edge.tensors import UInt8Images
from evit_edge.verification.coreml.answer_gates import (
    activation_gate,
    compression_gate,
    form_gate,
    graph_gate,
    kind_gate,
    rounding_gate,
    weight_gate,
)
from evit_edge.verification.coreml.case import Case
from evit_edge.verification.coreml.interface import INPUT_SIZE, Claims, interface_gates
from evit_edge.verification.coreml.limits import Limits
from evit_edge.verification.coreml.network import Network
from evit_edge.verification.coreml.ranges import range_gates
from evit_edge.verification.coreml.tracing import culprit_gate
from evit_edge.verification.gates import Gate, GateStatus, VerificationReport


def prove(
    package: Path | Package,
    network: Network,
    images: UInt8Images,
    *,
    claims: Claims | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    limits: Limits | None = None,
) -> VerificationReport:
    """Prove that a package computes what a network computes.

    Args:
        package: A ``.mlpackage``, or one that was read.
        network: The source.
        images: RGB uint8 (N, S, S, 3), some pictures; a handful is enough.
        claims: What the package has to say of itself.
        ranges: Name of a value to the range that it was calibrated to, for a package with quantized activations.
        limits: What is accepted.

    Returns:
        All gates. Where the answers are wrong, the last one names the first operation that is.

    Raises:
        ArtefactError: The package is damaged, takes no colour image, or has operations that are not supported.
        RequestError: The images do not fit.
    """
    opened = package if isinstance(package, Package) else read_package(package)
    case = Case(opened, images, network)
    accepted, said = limits or Limits(), claims or Claims()
    gates = interface_gates(case.view, network.image_size, case.normalization, said)
    if any(gate.name == INPUT_SIZE and gate.status is GateStatus.FAILED for gate in gates):
        skipped = Gate.skip("answers", "the package takes pictures of another size", "those of the source")
        return VerificationReport(opened.path, RUNTIME, (*gates, weight_gate(case), skipped), {}, (REMARK,))
    gates += [kind_gate(case, said), weight_gate(case), *range_gates(case, ranges, accepted)]
    answers = [*form_gate(case, accepted), graph_gate(case, accepted), rounding_gate(case, accepted)]
    if case.is_compressed:
        answers.append(compression_gate(case, accepted))
    gates += [*answers, activation_gate(case)]
    failed = {gate.name for gate in answers if gate.status is GateStatus.FAILED}
    if failed:
        gates.append(culprit_gate(case, failed))
    return VerificationReport(opened.path, RUNTIME, tuple(gates), case.figures(), (REMARK,))
