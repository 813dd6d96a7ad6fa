import subprocess
import sys

CODE = """
import sys, torch
before = set(sys.modules)
import snnkernels, snnkernels._build
print(*sorted(set(sys.modules) - before))
"""

HEAVY = {
    "torch.utils.cpp_extension",
    "setuptools",
    "rich",
    "filelock",
    "platformdirs",
    "matplotlib",
}


def test_importing_the_package_brings_in_no_tool_of_the_build():
    done = subprocess.run(
        [sys.executable, "-c", CODE], check=True, capture_output=True, text=True, timeout=600
    )
    imported = set(done.stdout.split())
    assert "snnkernels._build.loader" in imported
    assert not HEAVY & imported


def test_importing_the_package_starts_no_process_and_makes_no_folder():
    code = """
import sys, torch
def refuse(event, arguments):
    if event in ("subprocess.Popen", "os.mkdir", "os.posix_spawn", "os.system"):
        raise SystemExit(f"{event} {arguments}")
sys.addaudithook(refuse)
import snnkernels
"""
    command = [sys.executable, "-B", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
