"""A report as one page that needs nothing else: no network, no script."""

from __future__ import annotations

from html import escape
from importlib import resources

from evit_edge.benchmark.device import Device, Judgement
from evit_edge.benchmark.plots import distributions, ratio_bars, stage_bars, starts, time_series
from evit_edge.benchmark.presentation import (
    Rows,
    headline,
    operators,
    pipeline,
    published,
    status_line,
)
from evit_edge.benchmark.report import Report
from evit_edge.benchmark.surroundings import surroundings, verdict_lines

_SIGNS = {Judgement.VALID: "✓", Judgement.NOISY: "≈", Judgement.THROTTLED: "↓"}


def html_page(report: Report) -> str:
    """The page's text."""
    style = resources.files("evit_edge.benchmark").joinpath("report.css").read_text(encoding="utf-8")
    names = ", ".join(entry.name for entry in report.models)
    title = f"Latency of {names}"
    # No page, script or picture may be loaded, whatever a model's file name tries.
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{escape(title)}</title><style>{style}</style>"
    )
    body = f"<body><main>\n{_body(report)}\n</main></body>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n{body}</html>\n'


def _body(report: Report) -> str:
    partial = status_line(report)
    parts = [
        "<h1>Latency report</h1>",
        f'<p class="sub">evit-edge {escape(report.tool_version)}, {escape(report.created)}</p>',
        f'<p class="verdict throttled"><b>{escape(partial)}</b></p>' if partial else "",
        *(_verdict(device) for device in report.devices),
        _table(headline(report)),
        _notes(report),
        _figure("How the times are spread", distributions(report), _SPREAD),
        _figure("Is it stable?", time_series(report), _STABLE),
        _figure("Is it stable, start by start?", starts(report), _STARTS),
        _figure("Against the baseline", ratio_bars(report), _RATIO),
        _figure("From the photo's file to its labels", stage_bars(report), _stages(report)),
        *(_table(rows) for rows in (pipeline(report), published(report)) if rows is not None),
        *(_table(rows) for rows in operators(report)),
        *(_checks(device) for device in report.devices),
        *(_environment(device) for device in report.devices),
        _table(_models(report)),
        _settings(report),
        "<h2>Command</h2>",
        f"<pre>{escape(report.command)}</pre>",
    ]
    return "\n".join(part for part in parts if part)


_SPREAD = "Line: median; shaded: its interval; dashed: 90th and 99th percentile. Longer runs are beyond the edge."
_STABLE = (
    "Line: median of neighbouring runs; band: from the shortest to the longest of them. Thin lines: the model was "
    "loaded afresh. The reference loop is the same work every time: where it moves, the machine does."
)
_STARTS = "The tool tells no single runs. Line: mean of each start; band: from its shortest to its longest run."
_RATIO = "From loads in which both ran in turns. Below 1 is faster. An interval that holds 1 shows no difference."


def _stages(report: Report) -> str:
    photo = report.settings.image or "a generated JPEG of 1280 x 960"
    return f"On {photo}. Inference here includes copying the input and the output."


def _verdict(device: Device) -> str:
    judgement = device.verdict.judgement
    first, *rest = verdict_lines(device)
    lines = "".join(f"<br>{escape(line)}" for line in rest)
    head = f"<b>{_SIGNS[judgement]} {escape(device.name)}</b> {escape(first)}"
    return f'<p class="verdict {judgement.value}">{head}{lines}</p>'


def _notes(report: Report) -> str:
    if not report.remarks:
        return ""
    return f'<ul class="notes">{"".join(f"<li>{escape(remark)}</li>" for remark in report.remarks)}</ul>'


def _figure(title: str, drawing: str, caption: str) -> str:
    if not drawing:
        return ""
    return f"<h2>{escape(title)}</h2><figure>{drawing}<figcaption>{escape(caption)}</figcaption></figure>"


def _table(rows: Rows) -> str:
    def cells(tag: str, values: tuple[str, ...]) -> str:
        marks = ("" if i < rows.left else ' class="n"' for i in range(len(values)))
        return "".join(f"<{tag}{mark}>{escape(v)}</{tag}>" for mark, v in zip(marks, values, strict=True))

    head = f"<thead><tr>{cells('th', rows.columns)}</tr></thead>"
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows.rows)
    return f'<h2>{escape(rows.title)}</h2><div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'


def _checks(device: Device) -> str:
    if not device.verdict.checks:
        return ""
    rows = tuple(
        (
            "passed" if check.passed else check.judgement.value,
            check.name,
            check.subject,
            check.measured,
            check.limit,
        )
        for check in device.verdict.checks
    )
    columns = ("", "check", "of", "measured", "allowed")
    return _table(Rows(f"What the verdict on {device.name} rests on", columns, rows, 5))


def _environment(device: Device) -> str:
    return _table(Rows(f"Environment of {device.name}", ("", ""), tuple(surroundings(device)), 2))


def _models(report: Report) -> Rows:
    rows = tuple(
        (
            entry.name,
            f"{entry.format}, {entry.input_dtype} {'x'.join(map(str, entry.input_shape))}",
            entry.number_type,
            "-" if entry.macs is None else f"{entry.macs / 1e6:.0f} M",
            "-" if entry.parameters is None else f"{entry.parameters / 1e6:.2f} M",
            _engine(report, entry.name),
            entry.sha256,
        )
        for entry in report.models
    )
    columns = ("model", "format, input", "numbers", "MACs", "parameters", "engine", "SHA-256")
    return Rows("Models", columns, rows, 7)


def _engine(report: Report, model: str) -> str:
    engine = next((row.engine for row in report.measurements if row.model == model), None)
    if engine is None:
        return "-"
    words = [f"{engine.name} {engine.version}"]
    if engine.partitions is not None:
        plural = "s" if engine.partitions != 1 else ""
        words.append(f"{engine.delegate or 'no delegate'}, {engine.partitions} partition{plural}")
    if engine.native_nodes is not None:
        words.append(f"{engine.native_nodes} nodes outside")
    return ", ".join(words)


def _settings(report: Report) -> str:
    settings = report.settings
    rows = (
        ("runs", f"at least {settings.min_runs} and {settings.min_time_s:g} s of each model"),
        ("warm-up", settings.warmup_rule),
        ("order", settings.interleaving),
        ("seed", str(settings.seed)),
    )
    return _table(Rows("How it was measured", ("", ""), rows, 2))
