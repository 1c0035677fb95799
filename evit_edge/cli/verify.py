"""``evit-edge verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evit_edge.cli.options import Arm64RootOption, Json, Threads, choice
from evit_edge.cli.terminal import print_json, print_table, progress_bar

if TYPE_CHECKING:
    from evit_edge.verification import VerificationReport

_MARKS = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}


def verify(
    artefact: Annotated[
        Path, typer.Argument(help="A .tflite, .onnx or .mlpackage with what lies beside it, or everyday-int8.")
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
    golden: Annotated[
        Path | None,
        typer.Option("--golden", help="For a .mlpackage: new folder with pictures and answers to replay."),
    ] = None,
    arch: Annotated[
        str | None, typer.Option("--arch", help="arm64: replay on Arm's kernels, emulated, and compare with here.")
    ] = None,
    arm64_root: Arm64RootOption = None,
    threads: Threads = 1,
    json: Json = False,
) -> None:
    """Prove that a file is what its manifest says and answers like its model; exit 1 when a gate fails."""
    from evit_edge.verification import Architecture, VerifyRequest, check_replay
    from evit_edge.verification import verify as verify_artefact
    from evit_edge.zoo import artefact_path

    artefact = Path(artefact_path(artefact))
    request = VerifyRequest(
        artefact,
        weights=weights,
        data=tuple(data or ()),
        samples=samples,
        threads=threads,
        arch=None if arch is None else choice(Architecture, arch, "--arch"),
        arm64_root=arm64_root,
    )
    if golden is not None:
        check_replay(artefact, golden)
    with progress_bar("photos", None) as progress:
        report = verify_artefact(request, progress)
    if json:
        print_json(document(report))
    else:
        print_report(report)
    report.raise_if_failed()
    if golden is not None:
        _write_replay(artefact, golden)


def _write_replay(artefact: Path, folder: Path) -> None:
    from evit_edge.verification import write_replay

    pictures = write_replay(artefact, folder)
    typer.echo(
        f"{pictures} pictures, what to expect of them, and a Swift test (not compiled here) in {folder}", err=True
    )


def print_report(report: VerificationReport) -> None:
    """Print the gates as a table."""
    rows = [(gate.name, gate.measured, gate.required, _MARKS[gate.status.value]) for gate in report.gates]
    print_table(f"{report.artefact.name} in {report.runtime}", ("gate", "measured", "required", ""), rows, left=4)
    for remark in report.remarks:
        typer.echo(remark)


def document(report: VerificationReport) -> dict[str, Any]:
    """The gates as JSON."""
    return {
        "artefact": str(report.artefact),
        "runtime": report.runtime,
        "passed": report.passed,
        "gates": [{**vars(gate), "status": gate.status.value} for gate in report.gates],
        "figures": report.figures,
        "remarks": list(report.remarks),
    }
