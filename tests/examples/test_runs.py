"""A run of an example: what it trains, keeps, goes on from, and reports."""

import contextlib
import dataclasses
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from mnist_files import TEST as MNIST_TEST
from mnist_files import TRAIN, write_mnist
from run_files import BATCH, PASSES, SAMPLES, TEST, flags, saved

from snnkernels._backends import selection
from snnkernels._build import BuildError
from snnkernels.examples import _checkpoint, _training, lif_fc_mnist, surrogate_custom


def resume(log, *argv):
    return lif_fc_mnist.main(["--resume", "--log-dir", str(log), *argv])


def test_a_run_on_mnist_reports_its_epoch(tmp_path, capsys):
    pytest.importorskip("torchvision", reason="MNIST is read by torchvision", exc_type=Exception)
    write_mnist(tmp_path)
    argv = ["--dataset-dir", str(tmp_path), "--log-dir", str(tmp_path / "log"), "-T", "2"]
    assert lif_fc_mnist.main([*argv, "--epochs", "1", "--backend", "torch"]) == 0
    out = capsys.readouterr().out
    assert f"mnist: {TRAIN} training and {MNIST_TEST} test images; torch backend on" in out
    assert "epoch 1/1: loss" in out and "% test;" in out and "images/s" in out
    assert f"Curves: tensorboard --logdir {tmp_path / 'log'}" in out
    assert saved(tmp_path / "log").settings.batch_size == 128


def test_each_batch_begins_with_neurons_at_rest(tmp_path, monkeypatch):
    starts = []
    rates = _training.firing_rates

    def spy(net, images, settings):
        starts.append((net[1].v, net[3].v))
        return rates(net, images, settings)

    monkeypatch.setattr(_training, "firing_rates", spy)
    assert lif_fc_mnist.main(flags(tmp_path)) == 0
    assert starts == [(0.0, 0.0)] * PASSES


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path, finished):
    assert lif_fc_mnist.main(flags(tmp_path / "same")) == 0
    assert lif_fc_mnist.main(flags(tmp_path / "other", "--seed", "4")) == 0
    assert_same_state(saved(tmp_path / "same"), saved(finished))
    weights = [saved(log).content["net"]["0.weight"] for log in (tmp_path / "other", finished)]
    assert not torch.equal(*weights)


def test_only_the_first_training_samples_are_used_when_asked(finished):
    (result,) = saved(finished).results
    assert (result.training.samples, result.test.samples) == (SAMPLES, TEST)


# --- checkpoint and resume -----------------------------------------------------------------------


def assert_same_state(one, other):
    """Weights, optimizer and generators equal to the bit."""
    for part in ("net", "generators"):
        torch.testing.assert_close(one.content[part], other.content[part], rtol=0, atol=0)
    for index, state in one.content["optimizer"]["state"].items():
        expected = other.content["optimizer"]["state"][index]
        torch.testing.assert_close(state, expected, rtol=0, atol=0)


def await_next_second():
    """TensorBoard orders event files by the second they were begun in, then by process number."""
    time.sleep(1.001 - time.time() % 1)


def scalars(log):
    """TensorBoard's scalars by tag, as (step, value) pairs."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(log))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


KILLED_IN_ITS_SECOND_EPOCH = f"""
import os, signal, sys
from snnkernels.examples import _training, lif_fc_mnist

rates, passes = _training.firing_rates, []

def killed(*args):
    passes.append(args)
    if len(passes) == {PASSES + 2}:
        os.kill(os.getpid(), signal.SIGKILL)
    return rates(*args)

_training.firing_rates = killed
lif_fc_mnist.main(sys.argv[1:])
"""


def test_a_run_killed_in_mid_epoch_and_one_in_parts_resume_to_the_result_of_a_whole_one(
    tmp_path, finished
):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    argv = flags(killed, "--epochs", "3")
    command = [sys.executable, "-c", KILLED_IN_ITS_SECOND_EPOCH, *argv]
    process = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=600)
    assert process.returncode == -signal.SIGKILL
    assert len(saved(killed).results) == 1
    await_next_second()
    assert resume(killed) == 0
    assert resume(finished, "--epochs", "2") == 0
    assert resume(finished, "--epochs", "3") == 0
    assert lif_fc_mnist.main(flags(whole, "--epochs", "3")) == 0
    for log in (killed, finished):
        assert_same_state(saved(log), saved(whole))
        assert [result.epoch for result in saved(log).results] == [1, 2, 3]
    results = saved(killed).results
    assert scalars(killed) == {
        "train_accuracy": [(r.epoch, pytest.approx(r.training.accuracy)) for r in results],
        "test_accuracy": [(r.epoch, pytest.approx(r.test.accuracy)) for r in results],
    }


def test_resuming_where_there_is_no_checkpoint_begins_and_says_so(tmp_path, capsys):
    assert lif_fc_mnist.main(flags(tmp_path, "--resume")) == 0
    assert "checkpoint.pt: beginning with epoch 1" in capsys.readouterr().err
    assert len(saved(tmp_path).results) == 1


def test_resuming_a_finished_run_trains_no_more_and_says_how_to(finished, capsys):
    before = saved(finished)
    assert resume(finished) == 0
    assert "more are trained with --epochs 2 or above" in capsys.readouterr().out
    assert_same_state(saved(finished), before)


@pytest.mark.parametrize(
    ("flag", "value", "before"),
    [
        ("--tau", "3.0", "2.0"),
        ("-T", "3", "2"),
        ("--seed", "1", "0"),
        ("--dataset", "mnist", "digits"),
        ("--batch-size", "7", str(BATCH)),
        ("--learning-rate", "0.1", "0.001"),
        ("--encoder", "direct", "poisson"),
        ("--train-samples", "8", str(SAMPLES)),
    ],
)
def test_resuming_with_a_setting_that_changes_what_is_learnt_is_refused(
    finished, capsys, flag, value, before
):
    assert resume(finished, flag, value) == 1
    message = f"the run in {finished} was begun with {flag} {before}, and cannot go on with {value}"
    assert message in capsys.readouterr().err


def test_resuming_may_change_how_it_is_computed(finished):
    argv = ["--step-mode", "s", "--backend", "torch", "--epochs", "2", "--dataset", "auto"]
    assert resume(finished, *argv) == 0
    settings = saved(finished).settings
    assert (settings.step_mode, settings.backend, settings.dataset) == ("s", "torch", "digits")
    assert settings.log_dir == str(finished)


@pytest.mark.parametrize("captured", [False, True])
def test_an_optimizer_goes_on_as_the_new_run_captures_it_or_not(finished, captured):
    path = finished / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    content["optimizer"]["param_groups"][0]["capturable"] = captured
    torch.save(content, path)
    assert resume(finished, "--epochs", "2", "--device", "cpu") == 0
    settings = dataclasses.replace(saved(finished).settings, cuda_graph=not captured)
    net = lif_fc_mnist.build_net(64, settings)
    optimizer = torch.optim.Adam(net.parameters())
    _checkpoint.restore(saved(finished).content, settings, net, optimizer)
    assert [group["capturable"] for group in optimizer.param_groups] == [not captured]


def test_a_device_that_is_gone_is_named_as_the_run_goes_on(finished, capsys):
    path = finished / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    content["settings"]["device"] = "hpu"
    torch.save(content, path)
    with pytest.raises(SystemExit):
        resume(finished)
    assert "argument --device: got 'hpu', expected a device" in capsys.readouterr().err


def test_a_log_dir_that_was_moved_goes_on_in_its_new_place(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = shutil.copytree(finished, tmp_path / "runs" / "lif_fc_mnist")
    assert lif_fc_mnist.main(["--resume", "--epochs", "2"]) == 0
    assert len(saved(log).results) == 2 and len(saved(finished).results) == 1


def test_a_run_goes_on_with_the_precision_that_it_began_with(tmp_path, finished, capsys):
    assert lif_fc_mnist.main(flags(tmp_path / "amp", "--amp")) == 0
    assert resume(tmp_path / "amp", "--epochs", "2") == 0
    assert capsys.readouterr().out.count("autocast to bfloat16") == 2
    assert resume(finished, "--amp") == 1


def test_a_new_run_keeps_the_checkpoint_of_an_earlier_one_and_replaces_its_curves(finished, capsys):
    assert resume(finished, "--epochs", "2") == 0
    first = saved(finished)
    await_next_second()
    assert lif_fc_mnist.main(flags(finished, "--seed", "9")) == 0
    assert "The checkpoint of an earlier run is now" in capsys.readouterr().err
    assert_same_state(saved(finished, "checkpoint.pt.previous"), first)
    assert saved(finished).settings.seed == 9
    assert [step for step, _ in scalars(finished)["test_accuracy"]] == [1]


@contextlib.contextmanager
def largest_file(size):
    """Let no file grow beyond `size` bytes for a while, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if "events" not in path.name}


def test_a_full_disk_keeps_the_last_checkpoint_and_leaves_nothing_else(finished, capsys):
    before = files(finished)
    assert before.keys() == {"checkpoint.pt"}
    with largest_file(50_000):
        assert resume(finished, "--epochs", "2") == 1
    said = capsys.readouterr().err
    assert f"error: checkpoint or curves in {finished} can't be written ([Errno 27] File" in said
    assert "--resume goes on after the last finished epoch" in said
    assert files(finished) == before
    assert resume(finished, "--epochs", "2") == 0
    assert [result.epoch for result in saved(finished).results] == [1, 2]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_curves_that_cannot_be_written_are_named_by_their_folder(tmp_path, capsys):
    argv = flags(tmp_path)
    with largest_file(0):
        assert lif_fc_mnist.main(argv) == 1
    assert f"curves in {tmp_path} can't be written" in capsys.readouterr().err
    assert files(tmp_path) == {}


def refused(log, capsys, main=lif_fc_mnist.main):
    """What is said as a run refuses to go on from the checkpoint, which it leaves alone."""
    before = files(log)
    assert main(["--resume", "--log-dir", str(log), "--epochs", "5"]) == 1
    assert files(log) == before
    said = capsys.readouterr().err
    assert f"error: {log / 'checkpoint.pt'} is not " in said
    assert "move it away, or name another --log-dir" in said
    return said


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04" + bytes(100)])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, capsys, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    refused(tmp_path, capsys)


@pytest.mark.parametrize("where", [0.25, 0.5, 0.75])
def test_a_checkpoint_with_garbage_inside_is_not_trained_on(finished, capsys, where):
    path = finished / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    start = int(where * len(content))
    content[start : start + 64] = bytes(range(64))
    path.write_bytes(content)
    assert " is damaged)" in refused(finished, capsys)


def test_a_record_that_is_marked_as_a_folder_counts_as_damaged(finished, capsys):
    """torch would read nothing for it, and leave the weights to chance."""
    path = finished / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"/data/0"))
    content[entry + 38] = 0x10
    path.write_bytes(content)
    assert "/data/0 is damaged" in refused(finished, capsys)


def assigned(*keys, value):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict.clear, "it lacks 'format'"),
        (lambda content: content.pop("modules"), "it lacks 'modules'"),
        (assigned("format", value=0), "format 0, expected 1"),
        (assigned("settings", "unknown", value=1), "unexpected keyword argument 'unknown'"),
        (assigned("net", "0.weight", value=torch.zeros(3, 4)), "size mismatch for 0.weight"),
        (lambda content: content["net"].pop("2.weight"), 'Missing key(s) in state_dict: "2.weig'),
        (assigned("net", value=[]), "state_dict"),
        (assigned("optimizer", value={}), "param_groups"),
        (assigned("generators", "cpu", value=torch.zeros(3)), "RNG"),
    ],
    ids=[
        "foreign",
        "older",
        "format",
        "setting",
        "sizes",
        "keys",
        "net",
        "optimizer",
        "random",
    ],
)
def test_a_checkpoint_of_another_version_or_network_is_refused(finished, capsys, change, reason):
    content = torch.load(finished / "checkpoint.pt", weights_only=True)
    change(content)
    torch.save(content, finished / "checkpoint.pt")
    assert reason in refused(finished, capsys)


def test_a_checkpoint_of_the_same_layers_with_another_surrogate_is_refused(finished, capsys):
    assert "(it has other layers or neurons)" in refused(finished, capsys, surrogate_custom.main)


# --- what ends a run -----------------------------------------------------------------------------


def test_without_tensorboard_the_extra_is_named_before_any_training(tmp_path, monkeypatch, capsys):
    argv = flags(tmp_path)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setattr(_training, "train_epoch", lambda *args: pytest.fail("trained"))
    assert lif_fc_mnist.main(argv) == 1
    said = capsys.readouterr().err
    assert "TensorBoard does not import" in said
    assert "pip install 'snnkernels[examples]'" in said


def test_a_data_set_that_is_not_there_ends_with_a_message_and_leaves_the_checkpoint(
    finished, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    before = files(finished)
    assert lif_fc_mnist.main(["--log-dir", str(finished)]) == 1
    assert "lif_fc_mnist: error: torchvision does not import" in capsys.readouterr().err
    assert files(finished) == before


def test_a_backend_that_cannot_be_had_ends_with_its_message(tmp_path, monkeypatch, capsys):
    def refuse(name, device_type):
        raise BuildError("no C++ compiler")

    monkeypatch.setattr(selection, "resolve", refuse)
    assert lif_fc_mnist.main(flags(tmp_path, "--backend", "native")) == 1
    assert "lif_fc_mnist: error: no C++ compiler" in capsys.readouterr().err


def test_kernels_that_cannot_be_built_at_the_first_batch_end_with_their_message(
    tmp_path, monkeypatch, capsys
):
    def refuse(*args):
        raise BuildError("no C++ compiler")

    monkeypatch.setattr(_training, "firing_rates", refuse)
    assert lif_fc_mnist.main(flags(tmp_path)) == 1
    assert "lif_fc_mnist: error: no C++ compiler" in capsys.readouterr().err


def test_a_closed_pipe_is_not_taken_for_a_log_dir_that_cannot_be_written(
    tmp_path, monkeypatch, capsys
):
    def close(text):
        if text.startswith("epoch"):
            raise BrokenPipeError("Broken pipe")

    monkeypatch.setattr(_training, "_say", close)
    assert lif_fc_mnist.main(flags(tmp_path)) == 1
    assert capsys.readouterr().err == "lif_fc_mnist: error: Broken pipe\n"


def test_a_cuda_graph_needs_a_gpu(tmp_path, capsys):
    assert lif_fc_mnist.main(flags(tmp_path, "--device", "cpu", "--cuda-graph")) == 1
    assert (
        "--cuda-graph: got --device cpu and 1 processes, expected a GPU" in capsys.readouterr().err
    )


def test_a_log_dir_that_is_a_file_ends_with_a_message(tmp_path, capsys):
    (tmp_path / "log").write_text("taken")
    assert lif_fc_mnist.main(flags(tmp_path / "log")) == 1
    assert "lif_fc_mnist: error:" in capsys.readouterr().err


def test_an_interrupt_ends_with_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_training, "train_epoch", interrupt)
    assert lif_fc_mnist.main(flags(tmp_path)) == 130
    assert "--resume goes on after the last finished epoch" in capsys.readouterr().err
