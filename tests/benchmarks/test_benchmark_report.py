"""What the tables show."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import environment, report
from benchmarks.memory import Memory
from benchmarks.report import Report, skipped_lines, tables
from benchmarks.runner import CaseResult, Measurement
from benchmarks.timing import summarize


def result(case, **others: Measurement) -> CaseResult:
    def timed(role, milliseconds, memory=None):
        return Measurement(role=role, time=summarize([[milliseconds / 1e3]]), memory=memory)

    x = case.input_bytes
    return CaseResult(
        case,
        {
            "native": timed("fused", 0.5, Memory(1_500_000, x // 16)),
            "torch": timed("reference", 20.0, Memory(30_000_000, 3 * x)),
            "copy": timed("copy", 0.2),
            "clone": timed("copy", 0.4),
            **others,
        },
    )


def printed(results: list[CaseResult], width: int = 150) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    for table in tables(results, console):
        console.print(table)
    return console.export_text()


def row_of(text: str, case_text: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if case_text in line]
    return line.split()


def test_a_row_has_times_ratio_shares_memory_and_what_is_saved(tiny_case):
    row = row_of(printed([result(tiny_case())]), "[4,2,8]")
    assert " ".join(row) == (
        "lif ATan float32 [4,2,8] 0.500 (0) 20.0 (0) 40.0x 50% 100% 1.5 : 30 0.06 : 3.00"
    )


def test_inference_has_no_column_for_what_is_saved(tiny_case):
    text = printed([result(tiny_case(mode="inference"))])
    assert "saved/x" not in text
    assert row_of(text, "[4,2,8]")[-3:] == ["1.5", ":", "30"]


def test_a_second_contender_gets_a_row_of_its_own_with_its_compile_time(tiny_case):
    compiled = Measurement(role="other", time=summarize([[2e-3]]), compile_seconds=28.04)
    text = printed([result(tiny_case(), compile=compiled)])
    rows = [line.split() for line in text.splitlines() if "[4,2,8]" in line]
    assert [row[4] for row in rows] == ["native", "compile"]
    assert rows[1][-1] == "28.0"
    assert "10.0x" in rows[1]


@pytest.mark.parametrize(("width", "compiled"), [(80, False), (105, True)])
def test_in_a_narrow_terminal_time_and_memory_are_two_tables_and_no_figure_is_cut(
    tiny_case, width: int, compiled: bool
):
    compiler = Measurement(role="other", time=summarize([[2e-3]]), compile_seconds=28.04)
    others = {"compile": compiler} if compiled else {}
    text = printed([result(tiny_case(), **others)], width)
    assert "training: forward + backward · time" in text
    assert "training: forward + backward · memory" in text
    assert "…" not in text
    for figure in ["20.0 (0)", "40.0x", "1.5 : 30", "0.06 : 3.00"] + ["28.0"] * compiled:
        assert figure in text


def test_a_contender_that_was_left_out_is_named_with_its_reason(tiny_case):
    out = result(tiny_case(), compile=Measurement(role="other", skipped="T=4 is over 2"))
    assert row_of(printed([out]), "compile")[-1] == "compile"
    assert list(skipped_lines([out])) == [
        "compile left out of cpu training lif ATan float32 [4,2,8]: T=4 is over 2"
    ]


def test_there_is_a_table_for_each_device_and_mode_training_first(tiny_case):
    results = [result(tiny_case(mode=mode)) for mode in ("inference", "training")]
    text = printed(results)
    assert text.index("cpu · training") < text.index("cpu · inference")


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0, 3, "0"),
        (0.00004, 3, "<0.001"),
        (0.33912, 3, "0.339"),
        (10.35, 2, "10"),
        (9.96, 2, "10.0"),
        (1.5, 2, "1.5"),
        (5128.4, 3, "5128"),
    ],
)
def test_numbers_have_the_digits_that_matter(value: float, digits: int, text: str):
    assert report.digits(value, digits) == text


def test_json_is_replaced_only_by_a_whole_file(tiny_case, tmp_path: Path, monkeypatch):
    path = tmp_path / "found.json"
    found = Report(environment.describe(["cpu"]), {}, [result(tiny_case())])
    report.write_json(found, path)
    before = path.read_text()
    assert json.loads(before)["cases"]
    monkeypatch.setattr(report.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        report.write_json(found, path)
    assert path.read_text() == before


def test_the_summary_of_the_environment_names_cpu_threads_torch_and_commit():
    about = environment.describe(["cpu"])
    line = environment.summary({**about, "commit": "0123456789abcdef", "dirty": True})
    assert str(about["cpu"]) in line
    assert f"{about['threads']} threads" in line
    assert "commit 0123456789+changes" in line


def test_the_command_is_recorded_without_the_folders_of_this_machine(monkeypatch, tmp_path):
    arguments = ["benchmarks", "--json", str(tmp_path / "mine.json"), "--plot", "here/lif.png"]
    monkeypatch.setattr("sys.argv", arguments)
    found = environment.describe(["cpu"])["command"]
    assert found == ["--json", "mine.json", "--plot", "here/lif.png"]
