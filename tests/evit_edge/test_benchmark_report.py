"""The report's file, its schema, and what is made of it. The golden report is a real one, of this project's M0."""

import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest

from evit_edge.benchmark.device import Check, DeviceKind, Judgement, Phone, PhoneState
from evit_edge.benchmark.figures import ColdStart, Interval, Limit, MemoryUse, OperatorTime, Runs, Statistics
from evit_edge.benchmark.html import html_page
from evit_edge.benchmark.markdown import markdown
from evit_edge.benchmark.presentation import headline, histogram, milliseconds, published
from evit_edge.benchmark.published import HEADING
from evit_edge.benchmark.report import Accelerator, Report, Status, read_report, report_text, write_report
from evit_edge.benchmark.schema import published_schema, report_schema
from evit_edge.benchmark.svg import round_values
from evit_edge.errors import ReportError

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
UPDATE = "EVIT_EDGE_UPDATE_GOLDEN" in os.environ


@pytest.fixture(scope="module")
def report() -> Report:
    """The golden report."""
    return read_report(GOLDEN / "report-host.json")


@pytest.fixture(scope="module")
def phones(report) -> Report:
    """A made-up report of two phones by a tool that tells figures only: for the format, measured by nobody."""
    host = report.devices[0]
    state = PhoneState("light", {"skin": 36.5}, 0.8, charging=False, battery_temperature_c=31.0)
    phone = replace(host.environment, phone=Phone("Maker", "Model <1>", "SoC", "build", state, state))
    devices = tuple(
        replace(
            host, id=serial, kind=DeviceKind.ANDROID, name=f"Model {serial}", environment=phone, reference=Runs()
        )
        for serial in ("A1", "B2")
    )
    figures = Statistics(50, 0.004, 0.005, 0.006, 0.0001)
    measured = replace(report.measurements[0], statistics=figures, runs=Runs(), stages=(), limit=None)
    operators = (OperatorTime("CONV_2D", "convolution", 12, 0.002),)
    rows = (
        replace(measured, device="A1", accelerator=Accelerator.GPU, operators=operators),
        replace(measured, device="B2", statistics=None, failure="the cable was cut", cold_start=None),
    )
    return replace(report, devices=devices, measurements=rows, ratios=(), status=Status.PARTIAL)


def golden(name: str, text: str) -> None:
    """Compare with a file, or renew it where the environment asks for that."""
    path = GOLDEN / name
    if UPDATE:
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_the_file_comes_back_as_it_was(report, tmp_path):
    write_report(tmp_path / "report.json", report)
    assert read_report(tmp_path / "report.json") == report
    golden("report-host.json", report_text(report))


def test_a_list_of_times_is_one_line(report):
    count = len(report.measurements[1].runs.times_s)
    lines = [line for line in report_text(report).splitlines() if '"times_s"' in line]
    assert [line.count(",") for line in lines][2] >= count - 1


def test_the_published_schema_is_that_of_the_dataclasses():
    assert published_schema() == report_schema(), "run python -m evit_edge.benchmark.schema"


@pytest.mark.parametrize("name", ["report", "phones"])
def test_reports_are_valid(name, request):
    document = json.loads(report_text(request.getfixturevalue(name)))
    validator = jsonschema.Draft202012Validator(published_schema())
    validator.check_schema(published_schema())
    assert list(validator.iter_errors(document)) == []


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda d: d.pop("devices"), id="a field is missing"),
        pytest.param(lambda d: d.update(extra=1), id="a field is unknown"),
        pytest.param(lambda d: d.update(status="finished"), id="a word is unknown"),
        pytest.param(lambda d: d["measurements"][0].update(threads="1"), id="a number is text"),
        pytest.param(lambda d: d["measurements"][0]["runs"].update(times_s=[None]), id="a time is null"),
        pytest.param(lambda d: d.update(schema=2), id="another format"),
    ],
)
def test_schema_and_reader_refuse_the_same(spoil, report, tmp_path):
    document = json.loads(report_text(report))
    spoil(document)
    assert list(jsonschema.Draft202012Validator(published_schema()).iter_errors(document))
    path = tmp_path / "spoilt.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ReportError, match=re.escape(str(path))):
        read_report(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"schema": 1}'])
def test_what_is_no_report_is_said_to_be_none(content, tmp_path):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(ReportError, match=r"broken\.json"):
        read_report(path)
    with pytest.raises(ReportError, match="cannot be read"):
        read_report(tmp_path / "missing.json")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda r: Interval(2, 1, 0.99), id="interval turned around"),
        pytest.param(lambda r: Runs((0.001,), starts_s=(0.0, 1.0)), id="columns of two lengths"),
        pytest.param(lambda r: Runs((0.0,)), id="a run that took no time"),
        pytest.param(lambda r: Statistics(3, 2.0, 2.0, 1.0), id="least above most"),
        pytest.param(lambda r: replace(r.measurements[0], statistics=None), id="times without figures"),
        pytest.param(lambda r: replace(r.measurements[0], threads=0), id="no threads"),
        pytest.param(
            lambda r: replace(r.measurements[0], runs=Runs(), statistics=None, failure=None), id="says nothing"
        ),
        pytest.param(lambda r: replace(r, schema=r.schema + 1), id="another format"),
        pytest.param(lambda r: replace(r, models=()), id="figures of an unlisted model"),
        pytest.param(lambda r: replace(r, devices=r.devices * 2), id="a device twice"),
        pytest.param(
            lambda r: Check("noise", "loop", "1", "0", passed=False, judgement=Judgement.VALID, advice=""),
            id="a failure without consequence",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(make, report):
    with pytest.raises(ReportError):
        make(report)


def test_markdown(report):
    golden("report-host.md", markdown(report))


def test_page(report):
    golden("report-host.html", html_page(report))


class Page(HTMLParser):
    """Everything that a browser would fetch or run."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.fetched += [named[key] for key in ("src", "href", "xlink:href", "srcset") if key in named]
        assert tag not in {"script", "link", "iframe", "img", "object", "base"}
        assert not [key for key in named if key.startswith("on")]

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.parametrize("name", ["report", "phones"])
def test_the_page_needs_nothing_else(name, request):
    text = html_page(request.getfixturevalue(name))
    assert Page(text).fetched == []
    assert "url(" not in text
    assert "@import" not in text


def test_a_models_name_is_no_markup(report):
    evil = "<script>alert(1)</script>|\"'&"
    models = (replace(report.models[0], name=evil), *report.models[1:])
    rows = (replace(report.measurements[0], model=evil), *report.measurements[1:])
    ratios = tuple(replace(ratio, baseline=evil) for ratio in report.ratios)
    spoilt = replace(report, models=models, measurements=rows, ratios=ratios, remarks=(evil,), command=evil)
    assert evil in "".join(Page(html_page(spoilt)).words)
    table = [line for line in markdown(spoilt).splitlines() if line.startswith("|")]
    assert not any("<script>" in line and "\\<script>" not in line for line in table)
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table[:4]}) == 1


def test_page_and_markdown_say_what_is_missing(phones):
    for text in (html_page(phones), markdown(phones)):
        assert "PARTIAL" in text
        assert "the cable was cut" in text
        assert "5.00 (mean)" in text
        assert "thermal status light" in text
        assert "Operators of" in text
        assert "convolution" in text
    assert [cells[:3] for cells in headline(phones).rows] == [
        (report_name(phones), "A1", "gpu"),
        (report_name(phones), "B2", "cpu"),
    ]


def report_name(report):
    return report.measurements[0].model


def test_figures_of_others_stand_in_a_column_that_says_so(report):
    rows = published(report)
    column = rows.columns.index(HEADING)
    assert HEADING == "published, not measured here"
    assert all(row[column].endswith(" ms") and row[column + 1] for row in rows.rows)
    assert published(replace(report, published=())) is None
    assert HEADING in html_page(report)


def test_the_worst_device_judges_the_report(report):
    first = replace(report.devices[0], verdict=replace(report.devices[0].verdict, judgement=Judgement.VALID))
    second = replace(first, id="other", verdict=replace(first.verdict, judgement=Judgement.THROTTLED))
    assert replace(report, devices=(first, second)).judgement is Judgement.THROTTLED
    assert replace(report, devices=(first,)).trusted
    assert not replace(report, devices=(first,), status=Status.PARTIAL).trusted


def test_small_figures():
    assert milliseconds(0.00213) == "2.13"
    assert milliseconds(0.000213) == "0.213"
    assert milliseconds(None) == "-"
    assert ColdStart(0.1, 0.2, 0.3).total_s == pytest.approx(0.6)
    assert MemoryUse(100, 40, "").model_bytes == 60
    assert Limit(1, 1, "int8", 2.0, 1.0, 1.5).limit_s == 2.0
    assert histogram([1.0] * 5) == "█"
    assert histogram([1.0]) == ""
    assert len(histogram([1.0, 2.0, 2.0, 3.0])) == 12
    assert round_values(0, 1, 5) == (0, 0.2, 0.4, 0.6, 0.8, 1.0)
