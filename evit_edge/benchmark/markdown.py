"""A report as Markdown, for a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from evit_edge.benchmark.comparison import Comparison
from evit_edge.benchmark.presentation import (
    Rows,
    comparison_rows,
    headline,
    operators,
    pipeline,
    published,
    status_line,
)
from evit_edge.benchmark.report import Report
from evit_edge.benchmark.surroundings import surroundings, verdict_lines


def markdown(report: Report) -> str:
    """The report's text."""
    parts = ["## Latency", _emphasis(status_line(report))]
    for device in report.devices:
        first, *rest = verdict_lines(device)
        parts.append("\n".join([f"**{_escape(device.name)}** is {_escape(first)}", *map(_escape, rest)]))
    parts.append(_section(headline(report)))
    parts.append("\n".join(f"- {_escape(remark)}" for remark in report.remarks))
    parts += [_section(rows) for rows in (pipeline(report), *operators(report), published(report))]
    for device in report.devices:
        listed = "\n".join(f"- {name}: {_escape(value)}" for name, value in surroundings(device))
        parts.append(_folded(f"Environment of {device.name}", listed))
    models = "\n".join(f"- {_escape(entry.name)}: `{entry.sha256}`" for entry in report.models)
    parts.append(_folded("Models (SHA-256)", models))
    parts.append(f"```\n{report.command}\n```\n\nevit-edge {report.tool_version}, {report.created}")
    return "\n\n".join(part for part in parts if part) + "\n"


def comparison_text(found: Comparison, reports: tuple[Report, Report]) -> str:
    """Two reports' text."""
    parts = ["## Latency, compared", table(comparison_rows(found, reports))]
    parts.append("\n".join(f"- {_escape(remark)}" for remark in found.remarks))
    parts += [f"```\n{report.command}\n```" for report in reports]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(rows: Rows) -> str:
    """A Markdown table, figures to the right."""
    rule = [":--" if i < rows.left else "--:" for i in range(len(rows.columns))]
    lines = [rows.columns, rule, *rows.rows]
    return "\n".join(_line(cells) for cells in lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escape, cells))} |"


def _section(rows: Rows | None) -> str:
    return "" if rows is None else f"**{_escape(rows.title)}**\n\n{table(rows)}"


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{_escape(title)}</summary>\n\n{text}\n\n</details>"


def _emphasis(text: str | None) -> str:
    return "" if text is None else f"**{text}**"


def _escape(text: str) -> str:
    """Names of files must not become markup."""
    for character in "\\|*_<`":
        text = text.replace(character, f"\\{character}")
    return text
