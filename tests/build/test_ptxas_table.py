import subprocess
import sys

import pytest

from .conftest import REPOSITORY

SCRIPT = REPOSITORY / "scripts" / "ptxas_table.py"


def told(name, arch, registers, stores=0, loads=0):
    return (
        f"ptxas info    : Compiling entry function '{name}' for 'sm_{arch}'\n"
        f"ptxas info    : Function properties for {name}\n"
        f"    0 bytes stack frame, {stores} bytes spill stores, {loads} bytes spill loads\n"
        f"ptxas info    : Used {registers} registers, used 0 barriers, 360 bytes cmem[0]\n"
    )


@pytest.fixture
def table(tmp_path):
    def run(text):
        log = tmp_path / "build.log"
        log.write_text(text)
        done = subprocess.run(
            [sys.executable, SCRIPT, log], capture_output=True, text=True, timeout=600
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_each_kernel_has_a_row_and_each_architecture_a_column(table):
    log = told("_Z4scanIfEvv", "75", 40) + told("_Z4scanIfEvv", "120", 38)
    code, output = table(log + told("_Z4scanIdEvv", "75", 64, 8, 16))
    assert code == 0
    rows = {line.split()[0]: line.split()[1:] for line in output.splitlines()}
    assert rows["kernel"] == ["sm_75", "sm_120"]
    assert rows["scan<float>"] == ["40", "38"]
    assert rows["scan<double>"] == ["64", "(spills", "24)"]
    assert "2 kernels, 0 float32 kernels spill" in output


def test_a_float32_kernel_that_spills_fails(table):
    code, output = table(told("_Z4scanIfEvv", "75", 255, 4, 4))
    assert code == 1
    assert "1 float32 kernels spill" in output


def test_a_log_without_kernels_fails(table):
    code, output = table("$ c++ -c ops.cpp\n")
    assert code == 1
    assert "no kernels in this log" in output
