"""Threads and forked children that use neurons."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from snnkernels import compile_neuron, functional, spike

REPOSITORY = Path(__file__).resolve().parents[1]


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )


FORKS = """
import ctypes, os, signal, threading, time, torch
from snnkernels import _build, functional

torch.set_num_threads(1)
x = torch.rand(1, 1, 4)
functional.if_(x)
add_compiled_neuron = ctypes.CDLL(str(_build.load("cpu").path)).snn_add_compiled_neuron
add_compiled_neuron.argtypes = ctypes.c_char_p, ctypes.c_void_p
sizes = (ctypes.c_int * 5)(1, 1, 1, 0, 0)

def add_neurons():
    while True:
        add_compiled_neuron(b"Toy", ctypes.addressof(sizes))

for _ in range(4):
    threading.Thread(target=add_neurons, daemon=True).start()
for _ in range(120):
    child = os.fork()
    if child == 0:
        functional.if_(x)
        os._exit(0)
    end = time.monotonic() + 20
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            print("a child hangs", flush=True)
            os._exit(1)
        time.sleep(0.001)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_that_is_forked_while_threads_add_neurons_runs_one():
    done = run(FORKS)
    assert done.returncode == 0, done.stdout + done.stderr


FIRST_USE = """
import threading, warnings, torch
from snnkernels import compile_neuron, functional, spike

warnings.simplefilter("error")
start, found, x = threading.Barrier(8), [], torch.rand(3, 2, 5)

def work():
    start.wait()
    found.append(functional.lif(x, backend="native")[0])

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(found) == 8, len(found)
assert all(torch.equal(spikes, found[0]) for spikes in found)
"""


def test_eight_threads_may_be_the_first_to_use_a_neuron():
    functional.lif(torch.zeros(1, 1, 1), backend="native")  # built, so that they find it at once
    done = run(FIRST_USE)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


SMALL_STACK = """
import threading, torch
from snnkernels import neuron
from tests.test_processes import EightStates

torch.set_num_threads(1)
table = torch.rand(300, dtype=torch.float64)
nodes = neuron.CubaLIFNode(alpha=table, step_mode="m"), EightStates(a=table, step_mode="m")

def work():
    for node in nodes:
        node.reset()
        node(torch.rand(20, 2, 300, dtype=torch.float64, requires_grad=True)).sum().backward()

work()
threading.stack_size(256 * 1024)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def eight_states(x, s0, s1, s2, s3, s4, s5, s6, s7, *, a):
    out = spike(s0 + x + a * s7 - 1)
    return out, s0 + x - out, s1 + s0, s2 + s1, s3 + s2, s4 + s3, s5 + s4, s6 + s5, s7 / 2 + s6


EightStates = compile_neuron(eight_states, {f"s{i}": 0.0 for i in range(8)}, {"a": 0.1})


def test_threads_with_small_stacks_run_neurons_of_many_states():
    done = run(SMALL_STACK)
    assert done.returncode == 0, done.stderr
