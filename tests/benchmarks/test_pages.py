"""Tables and pictures say what the rows say, and the committed pages are up to date."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import environment, mnist, pages, picture, tables, workloads
from benchmarks.__main__ import main
from benchmarks.case import Case
from benchmarks.peers.spec import peers
from benchmarks.results import Results, read, together
from benchmarks.timing import summarize
from benchmarks.workloads import TINY

USUAL = Case("neuron", (16, 32, 1024))
SHD = Case("shd", (256, 256, 128))
TIMES = "(a) LIF neurons alone: milliseconds (times snnkernels)"


def row(case: Case, contender: str, milliseconds: float, **columns: Any) -> dict[str, Any]:
    times = asdict(summarize([[milliseconds / 1e3]]))
    return {**case.columns(), "contender": contender, **times, **columns}


def comparison(*cases: Case, command: str = "peers") -> Results:
    measured = {"peak_extra": 2_000_000, "saved": 1_000_000, "first_seconds": 1.5}
    titles = {peer.name: peer.title for peer in peers()}
    return Results(
        command,
        environment.describe("cpu"),
        rows=[
            each
            for case in cases
            for each in (
                row(case, "native", 0.5, **measured),
                row(case, "loop", 6.0, said="same", **measured),
                row(case, "norse", 8.0, said="same", provider="torch", fell_back=True, **measured),
                {**case.columns(), "contender": "spyx", "skipped": "not installed: a | b"},
                row(case, "copy", 0.2),
                row(case, "clone", 0.4),
            )
        ],
        contenders={
            name: {"title": titles[name], "versions": {"torch": "2.0"}, "import_seconds": 0.25}
            for name in ("native", "loop", "norse")
        },
        startup=[{"what": "cold build and load, cpu", "seconds": 4.0, "origin": "jit"}],
    )


def shown(*cases: Case) -> dict[str, pd.DataFrame]:
    results = comparison(*cases)
    return {**dict(tables.tables(results)), **dict(tables.long_tables(results))}


def test_times_stand_beside_ours_with_the_ratio_and_a_fallback_is_marked():
    table = shown(USUAL)[TIMES]
    assert list(table.columns) == ["case", "snnkernels", "plain PyTorch loop", "Norse 1.1.0"]
    (cells,) = table.itertuples(index=False, name=None)
    assert cells == ("[16, 32, 1024] float32 training", "0.500", "6.00 (12×)", "8.00* (16×)")


def test_the_share_of_the_copy_bandwidth_follows_the_bytes_model():
    table = shown(USUAL)["(a) LIF neurons alone: share of the copy bandwidth"]
    # 5 accesses in 0.5 ms against 4 in 0.2 ms; against 4 in 0.4 ms.
    assert table.iloc[0, 1] == "50%"
    assert table.iloc[0, -1] == "100%"


def test_memory_cold_start_and_every_measurement_are_shown():
    found = shown(USUAL)
    memory = next(table for title, table in found.items() if tables.MEMORY in title)
    assert memory.iloc[0, 1] == "2.0 (1.0)"
    start = found["Cold start"]
    assert list(start.iloc[0])[:3] == ["snnkernels", "0.25", "1.5"]
    assert list(start.iloc[-1]) == ["our kernels", "–", "4.0", "cold build and load, cpu", "–"]
    said = dict(found["Every measurement"][["who", "compared with ours"]].itertuples(index=False))
    assert said["plain PyTorch loop"] == "same"
    assert said["Norse 1.1.0"] == "same; fell back to torch"
    assert said["spyx"] == "left out: not installed: a | b"


def test_a_tiny_case_has_a_table_of_its_own_in_microseconds():
    found = shown(USUAL, Case("neuron", TINY))
    assert found["Host time of a call: microseconds"].iloc[0, 1] == "500"
    assert len(found[TIMES]) == 1


def test_a_cell_of_a_page_cannot_end_its_column():
    assert "not installed: a \\| b" in tables.markdown(shown(USUAL)["Every measurement"])


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
    assert tables.digits(value, digits) == text


def test_the_folder_of_mnist_does_not_get_into_a_row():
    case = Case("mnist", (50, 128, 784), options={"dataset_dir": "/some/where"})
    assert "/some/where" not in json.dumps(case.columns())


def test_results_are_read_as_they_were_written(tmp_path: Path):
    written = comparison(USUAL)
    written.write(tmp_path / "here.json")
    found = read(tmp_path / "here.json")
    written.files = ["here.json"]
    assert found == written


def test_files_of_one_machine_and_commit_become_one_and_others_stay_apart():
    first, second, other = (comparison(case) for case in (USUAL, SHD, USUAL))
    other.environment["commit"] = "another"
    for name, each in zip("abc", (first, second, other), strict=True):
        each.files = [name]
    whole, apart = together([first, second, other])
    assert {each["workload"] for each in whole.rows} == {"neuron", "shd"}
    assert whole.files == ["a", "b"] and apart.files == ["c"]
    assert len(together([comparison(USUAL), comparison(USUAL, command="neurons")])) == 2


def test_of_two_files_with_the_same_case_the_later_one_counts_whatever_their_order():
    later, earlier = comparison(USUAL), comparison(USUAL, SHD)
    later.written, earlier.written = "2026-01-02", "2026-01-01"
    later.rows[0]["median"] = 9.0
    later.startup, later.not_measured = [], ["cold build and load, cpu", str(SHD), "conv"]
    (whole,) = together([later, earlier])
    assert whole.written == "2026-01-02"
    native = [each for each in whole.rows if each["contender"] == "native"]
    assert {each["workload"]: each["median"] for each in native} == {"neuron": 9.0, "shd": 0.0005}
    assert len(whole.rows) == 12
    assert whole.startup == earlier.startup and whole.not_measured == ["conv"]


def test_times_of_different_runs_do_not_stand_in_one_line():
    """One library measured later brings its case along, with ours and the copies of that run."""
    earlier, later = comparison(USUAL), comparison(USUAL)
    earlier.written, later.written = "2026-01-01", "2026-01-02"
    later.rows = [each for each in later.rows if each["contender"] in ("native", "loop")]
    (whole,) = together([earlier, later])
    assert whole.rows == later.rows


def test_files_of_other_commands_stay_apart():
    runs = [Results("mnist", {}, rows=[{"run": name}], files=[name]) for name in "ab"]
    assert [found.files for found in together(runs)] == [["a"], ["b"]]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Pages of which nothing is up to date."""
    (tmp_path / "docs").mkdir()
    for page in pages.PAGES:
        text = f"# Kept\n\n{pages.BEGIN}\nout of date\n{pages.END}\nkept too\n"
        (tmp_path / page).write_text(text)
    return tmp_path


def report(checkout: Path, *names: str) -> int:
    return main(["report", *(str(checkout / name) for name in names), "--root", str(checkout)])


def test_report_replaces_what_stands_between_the_markers_and_draws(checkout: Path):
    comparison(USUAL).write(checkout / "here.json")
    assert report(checkout, "here.json") == 0
    text = (checkout / "docs/performance.md").read_text()
    assert text.startswith("# Kept\n") and text.endswith("kept too\n") and "out of date" not in text
    assert ["[16, 32, 1024] float32 training", "0.500", "6.00 (12×)", "8.00* (16×)"] in cells(text)
    assert (checkout / "docs/images/here.png").read_bytes().startswith(b"\x89PNG")
    assert "![Time of each workload](images/here.png)" in text
    assert report(checkout, "here.json") == 0
    assert (checkout / "docs/performance.md").read_text() == text
    assert "out of date" in (checkout / "docs/mnist.md").read_text()


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.split("\n")]


def readme_rows(checkout: Path, *runs: Results) -> list[list[str]]:
    """The README's lines after a report of runs, each a file of its own, a day after the last."""
    for day, run in enumerate(runs, 1):
        run.write(checkout / f"{day}.json")
        text = (checkout / f"{day}.json").read_text()
        written = f'"written": "2026-01-0{day}"'
        (checkout / f"{day}.json").write_text(re.sub(r'"written": "[^"]*"', written, text))
    assert report(checkout, *(f"{day}.json" for day in range(1, len(runs) + 1))) == 0
    lines = cells((checkout / "README.md").read_text())
    return [line for line in lines if len(line) == 8 and not line[0].startswith((":", "on"))]


def test_the_readme_has_the_first_case_of_each_workload_beside_the_best_of_all_others(
    checkout: Path,
):
    run = comparison(USUAL, Case("neuron", (500, 16, 512)), SHD)
    run.rows.append(row(USUAL, "dense", 0.6, peak_extra=100, first_seconds=1.0))
    run.contenders["dense"] = {**run.contenders["native"], "title": "snnkernels, another way"}
    run.rows[2].update(fell_back=False, median=0.005, peak_extra=3_000_000)
    run.rows = run.rows[::-1]  # whatever the order of measuring
    machine = tables.machine_of(run)
    loop = "–", "2.0", "–"
    norse = "5.00 (10×), Norse 1.1.0", "2.0", "3.0, Norse 1.1.0"
    assert readme_rows(checkout, run) == [
        [machine, "LIF alone [16, 32, 1024]", "0.500", "0.600 (1.2×)", "6.00 (12×)", *norse],
        [machine, "SHD network [256, 256, 128]", "0.500", "–", "6.00 (12×)", *loop],
    ]
    text = (checkout / "README.md").read_text()
    assert text.startswith("# Kept\n") and "out of date" not in text
    assert "On a GPU nothing has been compared yet." in text
    assert (checkout / "docs/images/training.png").read_bytes().startswith(b"\x89PNG")


def test_the_readme_keeps_what_a_later_run_did_not_measure_and_begins_with_gpus(checkout: Path):
    whole, later, gpu = comparison(USUAL, SHD), comparison(USUAL), comparison()
    alone = comparison(SHD)
    for each in (later, alone):
        each.environment["commit"] = each.rows[0]["workload"]
        each.rows[0]["median"] = 0.001
    alone.rows = alone.rows[:1]  # compared with nobody
    gpu.environment.update(gpu="GPU", driver="1")
    case = workloads.WORKLOADS["neuron"].cases("cuda")[0]
    gpu.rows = comparison(case).rows
    rows = readme_rows(checkout, whole, later, alone, gpu)
    assert [line[1:3] for line in rows] == [
        [f"LIF alone {case.size}", "0.500"],
        ["LIF alone [16, 32, 1024]", "1.00"],
        ["SHD network [256, 256, 128]", "0.500"],
    ]
    assert rows[0][0] == "GPU"
    assert "On a GPU nothing" not in (checkout / "README.md").read_text()


def test_the_readmes_picture_has_ours_first_whichever_runs_its_cases_are_of():
    first, second = comparison(USUAL), comparison(SHD)
    second.environment["commit"] = "another"
    second.rows.append(row(SHD, "dense", 0.6))
    second.contenders["dense"] = {**second.contenders["native"], "title": "snnkernels, another way"}
    found = tables.headlines([first, second])
    expected = ["snnkernels", "snnkernels, another way", "plain PyTorch loop", "Norse 1.1.0"]
    assert picture.contenders_of(found) == expected


def test_the_readme_stays_where_nothing_of_ours_was_timed(checkout: Path):
    run = comparison(USUAL)
    run.rows = [
        {**USUAL.columns(), "contender": name, "skipped": "why"} for name in ("native", "loop")
    ]
    before = (checkout / "README.md").read_text()
    assert readme_rows(checkout, run) == []
    assert (checkout / "README.md").read_text() == before


def test_a_page_without_markers_and_a_file_of_another_kind_are_refused(checkout: Path, capsys):
    comparison(USUAL).write(checkout / "here.json")
    page = checkout / "docs/performance.md"
    page.write_text("nothing to replace")
    assert report(checkout, "here.json") == 1
    assert "the page has no" in capsys.readouterr().out
    for text in ("{}", "[]", "nothing", '{"schema": 1}'):
        (checkout / "other.json").write_text(text)
        assert report(checkout, "other.json") == 1
        assert "other.json" in capsys.readouterr().out
    assert page.read_text() == "nothing to replace"


def test_the_committed_pages_are_what_report_writes_from_the_committed_files(tmp_path: Path):
    (tmp_path / "docs").mkdir()
    for page in pages.PAGES:
        (tmp_path / page).write_text((environment.ROOT / page).read_text())
    assert main(["report", "--root", str(tmp_path)]) == 0
    for page in pages.PAGES:
        assert (tmp_path / page).read_text() == (environment.ROOT / page).read_text()
    for image in (tmp_path / pages.IMAGES).iterdir():
        assert (environment.ROOT / pages.IMAGES / image.name).is_file()


def test_every_committed_file_can_be_read_and_shown():
    for path in environment.RESULTS.glob("*.json"):
        results = read(path)
        if results.command != "gpu-round":
            assert results.rows
        if results.command not in ("gpu-round", "mnist", "machine-code"):
            assert list(tables.tables(results))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_contender_of_a_device_has_a_colour_of_its_own(device):
    assert len([peer for peer in peers() if device in peer.devices]) <= 1 + len(picture.COLORS)


def test_a_run_of_the_mnist_example_is_recorded_with_its_settings_and_every_epoch(tmp_path: Path):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    pytest.importorskip("tensorboard", reason="the example writes TensorBoard's files")
    from snnkernels.examples import lif_fc_mnist

    flags = ["--dataset", "digits", "--epochs", "2", "-T", "3", "--tau", "4"]
    assert lif_fc_mnist.main([*flags, "--log-dir", str(tmp_path / "run")]) == 0
    path = tmp_path / "found.json"
    assert main(["mnist", f"tau=4={tmp_path / 'run'}", "--json", str(path)]) == 0
    found = read(path)
    assert found.settings["tau=4"]["tau"] == 4
    assert [row["epoch"] for row in found.rows] == [1, 2]
    frame = pd.DataFrame(found.rows)
    assert mnist.accuracies(frame).loc[2, "tau=4"] == 100 * found.rows[1]["accuracy"]
    assert mnist.runs_table(frame)["epochs"].tolist() == [2]
