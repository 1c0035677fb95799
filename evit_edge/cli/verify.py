"""``evit-edge verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evit_edge.cli.options import Json, Threads
from evit_edge.cli.terminal import print_json, print_table, progress_bar

if TYPE_CHECKING:
    from evit_edge.verification import VerificationReport

_MARKS = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}


def verify(
    artefact: Annotated[
        Path, typer.Argument(help="A .tflite or .mlpackage with its manifest and golden vectors beside it.")
    ],
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="The checkpoint it was made from, or everyday, or hf:OWNER/NAME."),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="Folder of photos on which both shall agree; may be repeated."),
    ] = None,
    samples: Annotated[int | None, typer.Option("--samples", min=1, help="Photos to take at most.")] = None,
    threads: Threads = 1,
    json: Json = False,
) -> None:
    """Prove that a file is what its manifest says and answers like its model; exit 1 when a gate fails."""
    from evit_edge.verification import VerifyRequest
    from evit_edge.verification import verify as verify_artefact

    request = VerifyRequest(artefact, weights=weights, data=tuple(data or ()), samples=samples, threads=threads)
    with progress_bar("photos", None) as progress:
        report = verify_artefact(request, progress)
    if json:
        print_json(document(report))
    else:
        print_report(report)
    report.raise_if_failed()


def print_report(report: VerificationReport) -> None:
    """Print the gates as a table."""
    rows = [(gate.name, gate.measured, gate.required, _MARKS[gate.status.value]) for gate in report.gates]
    print_table(f"{report.artefact.name} in {report.runtime}", ("gate", "measured", "required", ""), rows, left=4)


def document(report: VerificationReport) -> dict[str, Any]:
    """The gates as JSON."""
    return {
        "artefact": str(report.artefact),
        "runtime": report.runtime,
        "passed": report.passed,
        "gates": [{**vars(gate), "status": gate.status.value} for gate in report.gates],
        "figures": report.figures,
    }
