"""The page and the picture say what the JSON says, and the committed page is up to date."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import environment
from benchmarks.__main__ import main
from benchmarks.markdown import END
from benchmarks.memory import Memory
from benchmarks.peers import page, picture, results, tables
from benchmarks.peers.catalogue import entries
from benchmarks.peers.compare import Verdict
from benchmarks.peers.install import Place
from benchmarks.peers.measure import Found, TaskResult
from benchmarks.peers.process import Hello
from benchmarks.peers.results import Comparison
from benchmarks.peers.spec import Task
from benchmarks.peers.workloads import TINY
from benchmarks.startup import ColdBuild
from benchmarks.timing import summarize

USUAL = Task("neuron", (16, 32, 1024), rows=32)


def found(milliseconds: float, **others: Any) -> Found:
    time = summarize([[milliseconds / 1e3]])
    return Found(time=time, memory=Memory(2_000_000, 1_000_000), first_seconds=1.5, **others)


def comparison(*tasks: Task) -> Comparison:
    same = Verdict("same", "same", 0.0, 0.0)
    return Comparison(
        environment.describe(["cpu"]),
        {"budget": 1.0},
        entries(),
        {name: Hello({"torch": "2.0"}, 0.25) for name in ("native", "loop", "norse")},
        [
            TaskResult(
                task,
                {
                    "native": found(0.5),
                    "loop": found(6.0, verdict=same),
                    "norse": found(8.0, verdict=same, provider="torch", fell_back=True),
                    "spyx": Found(skipped="not installed: --install-peers spyx"),
                },
                {"copy": summarize([[0.0002]]), "clone": summarize([[0.0004]])},
            )
            for task in tasks
        ],
        [ColdBuild("cpu", 4.0, "jit")],
    )


def shown(*tasks: Task) -> dict[str, tables.Table]:
    return {table.title: table for table in tables.tables(comparison(*tasks).to_json())}


def test_times_stand_beside_ours_with_the_ratio_and_a_fallback_is_marked():
    table = shown(USUAL)["(a) LIF neurons alone: milliseconds (times ours)"]
    assert table.headings == ["case", "snnkernels", "plain PyTorch loop", "Norse 1.1.0"]
    (row,) = table.rows
    assert row == ["[16, 32, 1024] float32 training", "0.500", "6.00 (12×)", "8.00* (16×)"]


def test_the_share_of_the_copy_bandwidth_follows_the_bytes_model():
    table = shown(USUAL)["(a) LIF neurons alone: share of the copy bandwidth"]
    # 5 accesses in 0.5 ms against 4 in 0.2 ms; against 4 in 0.4 ms.
    assert table.rows[0][1] == "50%"
    assert table.rows[0][-1] == "100%"


def test_memory_cold_start_and_every_measurement_are_shown():
    found = shown(USUAL)
    memory = next(table for title, table in found.items() if tables.MEMORY in title)
    assert memory.rows[0][1] == "2.0 (1.0)"
    assert found["Cold start"].rows[0][:3] == ["snnkernels", "0.25", "1.5"]
    assert found["Cold start"].rows[-1][2] == "4.0"
    said = {row[1]: row[-1] for row in found["Every measurement"].rows}
    assert said["plain PyTorch loop"] == "same"
    assert said["Norse 1.1.0"] == "same; fell back to torch"
    assert said["spyx 1.0.0 (JAX, jit)"] == "left out: not installed: --install-peers spyx"


def test_a_tiny_case_has_a_table_of_its_own_in_microseconds():
    found = shown(USUAL, Task("neuron", TINY, rows=1))
    assert found["Host time of a call: microseconds"].rows[0][1] == "500"
    assert len(found["(a) LIF neurons alone: milliseconds (times ours)"].rows) == 1


def test_the_folder_of_mnist_does_not_get_into_the_json():
    task = Task("mnist", (50, 128, 784), options={"parts": 10, "dataset_dir": "/some/where"})
    assert "/some/where" not in json.dumps(TaskResult(task).to_json())


def write(folder: Path, name: str, whole: dict[str, Any]) -> Path:
    path = folder / name
    path.write_text(json.dumps(whole))
    return path


def test_files_of_one_machine_and_commit_become_one_and_others_stay_apart(tmp_path: Path):
    first = comparison(USUAL).to_json()
    second = comparison(Task("shd", (256, 256, 128))).to_json()
    other = copy.deepcopy(first)
    other["environment"]["commit"] = "another"
    files = [write(tmp_path, name, whole) for name, whole in
             (("a.json", first), ("b.json", second), ("c.json", other))]  # fmt: skip
    whole, apart = results.read(files)
    assert [case["task"]["workload"] for case in whole["cases"]] == ["neuron", "shd"]
    assert whole["files"] == ["a.json", "b.json"] and apart["files"] == ["c.json"]


def test_of_two_files_with_the_same_case_the_later_one_counts_whatever_their_names(tmp_path: Path):
    later = comparison(USUAL).to_json()
    earlier = comparison(USUAL, Task("shd", (256, 256, 128))).to_json()
    later["written"], earlier["written"] = "2026-01-02", "2026-01-01"
    later["cases"][0]["foreign_cores"] = 0.5
    later["startup"], later["not_measured"] = [], ["cold build for cpu", "conv"]
    files = [write(tmp_path, name, each) for name, each in (("a.json", later), ("b.json", earlier))]
    (whole,) = results.read(files)
    assert whole["files"] == ["b.json", "a.json"] and whole["written"] == "2026-01-02"
    assert [case["foreign_cores"] for case in whole["cases"]] == [0.5, None]
    assert whole["startup"] == earlier["startup"] and whole["not_measured"] == ["conv"]
    assert page.image_name(whole) == "b.png"


def test_report_replaces_what_stands_between_the_markers_and_draws(tmp_path: Path, capsys):
    where = tmp_path / "page.md"
    where.write_text(f"# Kept\n\n{page.BEGIN}\nout of date\n{END}\nkept too\n")
    file = write(tmp_path, "here.json", comparison(USUAL).to_json())
    assert main(["report", str(file), "--page", str(where)]) == 0
    text = where.read_text()
    assert text.startswith("# Kept\n") and text.endswith("kept too\n") and "out of date" not in text
    assert "| [16, 32, 1024] float32 training | 0.500 | 6.00 (12×) | 8.00* (16×) |" in text
    assert (tmp_path / "images" / "here.png").read_bytes().startswith(b"\x89PNG")
    assert "![Time of each workload](images/here.png)" in text
    main(["report", str(file), "--page", str(where)])
    assert where.read_text() == text


def test_a_page_without_markers_and_a_file_of_another_kind_are_refused(tmp_path: Path, capsys):
    where = tmp_path / "page.md"
    where.write_text("nothing to replace")
    file = write(tmp_path, "here.json", comparison(USUAL).to_json())
    with pytest.raises(SystemExit):
        main(["report", str(file), "--page", str(where)])
    assert "the page has no" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["report", str(write(tmp_path, "x.json", {})), "--page", str(where)])
    assert "is no JSON of python -m benchmarks --peers" in capsys.readouterr().err


def test_the_committed_page_is_what_report_writes_from_the_committed_files():
    text = page.PAGE.read_text(encoding="utf-8")
    comparisons = results.read(page.committed())
    assert page.with_tables(text, comparisons) == text
    for whole in comparisons:
        assert (page.PAGE.parent / page.IMAGES / page.image_name(whole)).is_file()


def test_peers_that_are_not_installed_are_named_and_ours_is_measured(
    tmp_path: Path, monkeypatch, capsys
):
    arguments = ["--peers", "loop", "norse", "--quick", "--budget", "0.01", "--no-startup"]
    where = ["--devices", "cpu", "--peers-dir", str(tmp_path)]
    assert main([*arguments, *where, "--json", str(tmp_path / "found.json")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "norse: left out: not installed: --install-peers norse" in said
    (whole,) = results.read([tmp_path / "found.json"])
    assert {"commit", "cpu", "torch"} <= set(whole["environment"])
    for case in whole["cases"]:
        assert case["peers"]["native"]["time"]["median"] > 0
        assert case["peers"]["loop"]["verdict"]["kind"] == "same"
    assert Place(tmp_path).python(entries()[0]) is not None


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_contender_of_a_device_has_a_colour_of_its_own(device):
    names = [entry.peer.name for entry in entries() if device in entry.peer.devices]
    found = {"cases": [{"peers": {name: {"time": {"median": 1.0}} for name in names}}]}
    assert len(set(picture._colors(found).values())) == len(names)
