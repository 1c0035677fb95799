"""Where wrong answers begin: runs both sides once more, on one picture, and compares them value by value."""

from __future__ import annotations

from evit_edge.runtime.coreml import Precision
from evit_edge.verification.coreml.answer_gates import COMPRESSION, FORM, GRAPH, ROUNDING
from evit_edge.verification.coreml.answers import values
from evit_edge.verification.coreml.case import Case
from evit_edge.verification.coreml.codes import code_book
from evit_edge.verification.coreml.culprit import Culprit, first_jump, first_wrong, relative_errors
from evit_edge.verification.gates import Gate

_HALF_STEP = 2.0**-11


def culprit_gate(case: Case, failed: set[str]) -> Gate:
    """Name the first operation that is wrong, where gates on the answers have failed."""
    required = "no operation that adds an error of its own"
    if FORM in failed:
        told = "the form that was converted is another function than the network; its conversion was not looked at"
        return Gate.check("first wrong operation", False, told, required)
    found = trace(case, failed)
    told = str(found) if found else "none stands out: the error grows from operation to operation"
    return Gate.check("first wrong operation", False, told, required)


def trace(case: Case, failed: set[str]) -> Culprit | None:
    """The first operation that explains a failed gate, on the first picture."""
    picture = case.images[:1]
    package, weights = case.float_package, case.replacements
    exact = values(package, picture, Precision.FLOAT64, weights)
    if GRAPH in failed:
        graph = case.network.graph
        return first_wrong(case.float_view, exact, graph, graph.values(case.network.normalised(picture)))
    if ROUNDING in failed:
        rounded = values(package, picture, Precision.DECLARED, weights)
        return first_jump(case.float_view, relative_errors(rounded, exact), floor=32 * _HALF_STEP, factor=16)
    if COMPRESSION in failed:
        gains = code_book(case.view).gains
        stored = values(case.package, picture, Precision.DECLARED)
        stored = {name: value / gains.get(name, 1.0) for name, value in stored.items()}
        return first_jump(case.float_view, relative_errors(stored, exact), floor=0.1, factor=4)
    return None
