"""An evaluation as tables and as JSON."""

from __future__ import annotations

from typing import Any

import typer

from evit_edge.cli.terminal import percent, print_table
from evit_edge.evaluation.report import ClassReport, EvaluationReport, ModelReport, PairReport, Share

_WORST = 10


def print_report(report: EvaluationReport, *, every_class: bool) -> None:
    """Print models, pairs and classes."""
    left_out = f", {len(report.bad)} left out as unreadable" if report.bad else ""
    print_table(
        f"{report.photos} photos{left_out}; % with 95 % intervals",
        ("model", "engine", "top-1", "top-5"),
        [(m.name, m.runtime, _share(m.top1), _share(m.top5)) for m in report.models],
        left=2,
    )
    for model in report.models:
        if model.remark is not None:
            typer.echo(f"{model.name}: {model.remark}")
    if report.pairs:
        print_table(
            "Pairs on the same photos; difference in points of top-1, p by McNemar",
            ("first", "second", "difference", "right alone", "p exact", "p mid", "same answer %"),
            [_pair(pair) for pair in report.pairs],
            left=2,
        )
    _print_classes(report, every_class)


def _print_classes(report: EvaluationReport, every_class: bool) -> None:
    first = report.models[0]
    ranked = sorted(range(len(first.classes)), key=lambda i: first.classes[i].top1.value if _seen(first, i) else 2)
    shown = ranked if every_class else ranked[:_WORST]
    title = "Every class" if len(shown) == len(ranked) else f"The {len(shown)} worst of {len(ranked)} classes"
    print_table(
        f"{title}, top-1 %, the first model's worst first",
        ("class", "photos", *(m.name for m in report.models), "precision %", "mistaken for"),
        [_class_row(report, i) for i in shown],
    )
    if len(shown) < len(ranked):
        typer.echo("--per-class shows all, --json everything")


def _seen(model: ModelReport, index: int) -> bool:
    return model.classes[index].top1.total > 0


def _class_row(report: EvaluationReport, index: int) -> tuple[str, ...]:
    first = report.models[0].classes[index]
    values = [m.classes[index].top1 for m in report.models]
    cells = [percent(v.value) if v.total else "-" for v in values]
    precision = "-" if first.precision is None else percent(first.precision)
    return first.label, str(first.top1.total), *cells, precision, first.mistaken_for or "-"


def _share(share: Share) -> str:
    return f"{percent(share.value)} [{percent(share.interval.low)}, {percent(share.interval.high)}]"


def _pair(pair: PairReport) -> tuple[str, ...]:
    return (
        pair.first,
        pair.second,
        f"{100 * pair.difference:+.1f} [{100 * pair.interval.low:+.1f}, {100 * pair.interval.high:+.1f}]",
        f"{pair.test.only_first} : {pair.test.only_second}",
        f"{pair.test.p_exact:.3g}",
        f"{pair.test.p_mid:.3g}",
        _share(pair.agreement),
    )


def document(report: EvaluationReport) -> dict[str, Any]:
    """The report as JSON; proportions, not per cent."""
    return {
        "photos": report.photos,
        "unreadable": list(report.bad),
        "models": [_model_fields(model) for model in report.models],
        "pairs": [_pair_fields(pair) for pair in report.pairs],
    }


def _share_fields(share: Share) -> dict[str, Any]:
    return {
        "value": share.value if share.total else None,
        "count": share.count,
        "total": share.total,
        "interval": [share.interval.low, share.interval.high],
    }


def _model_fields(model: ModelReport) -> dict[str, Any]:
    return {
        "name": model.name,
        "runtime": model.runtime,
        "remark": model.remark,
        "top1": _share_fields(model.top1),
        "top5": _share_fields(model.top5),
        "classes": [_class_fields(entry) for entry in model.classes],
        "confusion": {"columns": list(model.columns), "rows": model.confusion.tolist()},
    }


def _class_fields(entry: ClassReport) -> dict[str, Any]:
    return {
        "label": entry.label,
        "top1": _share_fields(entry.top1),
        "precision": entry.precision,
        "mistaken_for": entry.mistaken_for,
    }


def _pair_fields(pair: PairReport) -> dict[str, Any]:
    return {
        "first": pair.first,
        "second": pair.second,
        "difference": pair.difference,
        "interval": [pair.interval.low, pair.interval.high],
        "mcnemar": vars(pair.test),
        "agreement": _share_fields(pair.agreement),
    }
