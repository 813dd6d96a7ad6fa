"""The MNIST example: prompt and flags, training, checkpoints, and what it reports."""

import contextlib
import dataclasses
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mnist_files import TEST, TRAIN, write_mnist

from snnkernels import functional
from snnkernels._backends import selection
from snnkernels._build import BuildError
from snnkernels.examples import _settings, _training, lif_fc_mnist, surrogate_custom
from snnkernels.examples._checkpoint import Checkpoint
from snnkernels.examples._settings import OPTIONS, Settings

MNIST = Path(
    os.environ.get("SNNKERNELS_MNIST", Path(__file__).parents[3] / "shared" / "data")
).absolute()


@pytest.fixture
def no_answers(monkeypatch):
    """A prompt at which nobody answers must not be reached."""
    monkeypatch.setattr("builtins.input", lambda question: pytest.fail(f"asked: {question}"))


def answer(monkeypatch, *answers):
    """Answer the prompt's questions in order, then end the input; returns the questions."""
    questions, left = [], list(answers)

    def reply(question=""):
        questions.append(question)
        if not left:
            raise EOFError
        return left.pop(0)

    monkeypatch.setattr("builtins.input", reply)
    return questions


def read(*argv):
    return _settings.read_arguments(argv, "description", "lif_fc_mnist", Settings())


def small_run(tmp_path, *argv):
    """Flags for a run of milliseconds on a dozen images."""
    write_mnist(tmp_path / "data")
    flags = ["--dataset-dir", str(tmp_path / "data"), "--log-dir", str(tmp_path / "log")]
    return [*flags, "-T", "2", "--epochs", "1", "--batch-size", "5", *argv]


def saved(log_dir):
    checkpoint = Checkpoint.load(Path(log_dir) / "checkpoint.pt")
    assert checkpoint is not None
    return checkpoint


# --- flags ---------------------------------------------------------------------------------------


def test_every_flag_sets_the_setting_of_its_name(no_answers):
    argv = ["--device", "cpu", "--dataset-dir", "d", "--batch-size", "7", "--learning-rate", "0.5"]
    argv += ["-T", "9", "--tau", "3.5", "--epochs", "4", "--log-dir", "l", "--dataset", "digits"]
    argv += ["--encoder", "direct", "--step-mode", "s", "--backend", "torch", "--seed", "11"]
    argv += ["--train-samples", "100", "--amp", "--cuda-graph", "--resume"]
    given, resume = read(*argv)
    assert resume
    assert Settings(**given) == Settings(
        "cpu", "d", 7, 0.5, 9, 3.5, 4, "l", "digits", "direct", "s", "torch", 11, 100, True, True
    )
    assert {option.name for option in OPTIONS} == {f.name for f in dataclasses.fields(Settings)}


def test_one_flag_leaves_the_others_at_their_defaults_and_asks_nothing(no_answers):
    given, resume = read("--tau", "4")
    assert given == {"tau": 4.0}
    assert not resume


BAD = [
    ("--device", "tpu:7", "a device that PyTorch has here"),
    ("--device", "meta", "a device that PyTorch has here"),
    ("--batch-size", "0", "an integer >= 1"),
    ("--batch-size", "many", "an integer >= 1"),
    ("--learning-rate", "0", "a number > 0"),
    ("--learning-rate", "nan", "a number > 0"),
    ("-T", "-3", "an integer >= 1"),
    ("-T", "2.5", "an integer >= 1"),
    ("--tau", "0.99", "a number >= 1"),
    ("--tau", "inf", "a number >= 1"),
    ("--epochs", "0", "an integer >= 1"),
    ("--dataset", "cifar", "mnist or fashion-mnist or digits or auto"),
    ("--encoder", "latency", "poisson or direct"),
    ("--step-mode", "x", "s or m"),
    ("--backend", "triton", "auto or native or cupy or torch"),
    ("--seed", "-1", "an integer >= 0"),
    ("--train-samples", "0", "an integer >= 1"),
]


@pytest.mark.parametrize(("flag", "value", "expected"), BAD)
def test_a_bad_value_is_refused_with_the_flag_what_was_got_and_what_expected(
    flag, value, expected, capsys
):
    with pytest.raises(SystemExit) as stopped:
        read(f"{flag}={value}" if flag.startswith("--") else f"{flag}{value}")
    assert stopped.value.code == 2
    assert f"argument {flag}: got '{value}', expected {expected}" in capsys.readouterr().err


def test_an_unknown_or_shortened_flag_is_refused(capsys):
    for flag in ("--taus", "--learning"):
        with pytest.raises(SystemExit):
            read(flag, "1")
        assert "unrecognized arguments" in capsys.readouterr().err


def test_help_gives_each_flag_with_its_default(capsys):
    with pytest.raises(SystemExit):
        read("--help")
    text = " ".join(capsys.readouterr().out.split())
    for option in OPTIONS:
        assert option.flag in text
    assert "(default: 50)" in text and "(default: 128 (digits: 16))" in text
    assert "None" not in text


# --- prompt --------------------------------------------------------------------------------------


def test_without_flags_the_prompt_asks_for_the_eight_settings_in_the_tutorials_order(monkeypatch):
    questions = answer(monkeypatch, "cpu", "d", "64", "0.01", "20", "3", "2", "l")
    given = _settings.ask(Settings())
    assert Settings(**given) == Settings("cpu", "d", 64, 0.01, 20, 3.0, 2, "l")
    assert len(questions) == 8
    assert questions[1] == "Folder of the MNIST files (dataset-dir) [data]: "


def test_an_empty_answer_takes_the_default_in_brackets(monkeypatch):
    questions = answer(monkeypatch, *[""] * 8)
    assert Settings(**_settings.ask(Settings())) == Settings()
    assert questions[2].endswith("[128 (digits: 16)]: ")


def test_a_bad_answer_is_explained_and_asked_again(monkeypatch, capsys):
    questions = answer(monkeypatch, "nowhere:0", "cpu", "", "-5", " 32 ")
    given = _settings.ask(Settings())
    assert (given["device"], given["batch_size"]) == ("cpu", 32)
    assert questions[0] == questions[1] and questions[3] == questions[4]
    out = capsys.readouterr().out
    assert "device: got 'nowhere:0', expected a device that PyTorch has here" in out
    assert "batch-size: got '-5', expected an integer >= 1. Try again." in out


def test_at_the_end_of_input_the_rest_keeps_its_defaults_and_is_listed(monkeypatch, capsys):
    answer(monkeypatch, "cpu", "elsewhere")
    assert Settings(**_settings.ask(Settings())) == Settings(device="cpu", dataset_dir="elsewhere")
    said = capsys.readouterr().err
    assert "going on with --batch-size 128 (digits: 16), --learning-rate 0.001, -T 50" in said


def test_main_without_flags_trains_on_the_answers(monkeypatch, tmp_path, capsys):
    write_mnist(tmp_path)
    answer(monkeypatch, "", str(tmp_path), "5", "0.01", "2", "2", "1", str(tmp_path / "log"))
    assert lif_fc_mnist.main([]) == 0
    assert saved(tmp_path / "log").settings.batch_size == 5
    assert "epoch 1/1: loss" in capsys.readouterr().out


# --- the network ---------------------------------------------------------------------------------


def layer_spikes(settings, images):
    """The spikes of both LIF layers, [T, B, N] each, and the gradient of the first weight."""
    torch.manual_seed(5)
    net = lif_fc_mnist.build_net(images.shape[1], settings)
    with torch.no_grad():
        for layer in (net[0], net[2]):
            layer.weight.mul_(6)  # both layers fire
    kept = {1: [], 3: []}
    for index, spikes in kept.items():
        net[index].register_forward_hook(lambda module, x, y, to=spikes: to.append(y.detach()))
    rates = _training.firing_rates(net, images, settings)
    rates.square().sum().backward()
    functional.reset_net(net)
    shape = (settings.T, len(images), -1)
    return *(torch.cat(s).view(shape) for s in kept.values()), net[0].weight.grad


@pytest.mark.parametrize("encoder", ["poisson", "direct"])
@pytest.mark.parametrize("name", ["auto", "torch"])
def test_the_same_seed_gives_the_same_spikes_step_by_step_and_multi_step(encoder, name):
    images = torch.rand(32, 784, generator=torch.Generator().manual_seed(1))
    settings = Settings(device="cpu", T=12, encoder=encoder, step_mode="s", backend="torch")
    *expected, grad = layer_spikes(settings, images)
    settings = dataclasses.replace(settings, step_mode="m", backend=name)
    *spikes, multi_grad = layer_spikes(settings, images)
    for ours, theirs in zip(spikes, expected, strict=True):
        assert 0.02 < theirs.mean() < 0.98
        assert torch.equal(ours, theirs)
    torch.testing.assert_close(multi_grad, grad, rtol=1e-4, atol=1e-6)


def test_each_batch_begins_with_neurons_at_rest(tmp_path, monkeypatch):
    nets = []
    build = lif_fc_mnist.build_net
    monkeypatch.setattr(
        lif_fc_mnist, "build_net", lambda *args: nets.append(build(*args)) or nets[0]
    )
    starts = []
    rates = _training.firing_rates

    def spy(net, images, settings):
        starts.append((net[1].v, net[3].v))
        return rates(net, images, settings)

    monkeypatch.setattr(_training, "firing_rates", spy)
    assert lif_fc_mnist.main(small_run(tmp_path)) == 0
    assert starts == [(0.0, 0.0)] * (3 + 1)  # 12 images in batches of 5, then 5 test images


# --- training ------------------------------------------------------------------------------------


@pytest.mark.skipif(
    not (MNIST / "MNIST" / "raw").is_dir(),
    reason=f"MNIST is not in {MNIST}; SNNKERNELS_MNIST may name its folder",
)
def test_it_learns_mnist(tmp_path):
    settings = Settings(
        device="cpu",
        dataset_dir=str(MNIST),
        T=15,
        epochs=1,
        log_dir=str(tmp_path),
        batch_size=64,
        learning_rate=2e-3,
        train_samples=6400,
    )
    (result,) = _training.train(settings, build=lif_fc_mnist.build_net)
    assert result.training.samples == 6400
    assert result.test.samples == 10_000
    assert result.test.accuracy > 0.7


@pytest.mark.parametrize("encoder", ["poisson", "direct"])
def test_it_learns_the_digits_offline(tmp_path, encoder):
    pytest.importorskip("sklearn", reason="scikit-learn carries the digits")
    settings = Settings(
        device="cpu",
        dataset="digits",
        encoder=encoder,
        T=15,
        epochs=2,
        log_dir=str(tmp_path),
        learning_rate=5e-3,
    )
    results = _training.train(settings, build=lif_fc_mnist.build_net)
    assert [result.epoch for result in results] == [1, 2]
    assert results[-1].test.accuracy > 0.8
    assert saved(tmp_path).net["0.weight"].shape == (196, 64)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path):
    weights = []
    for index, seed in enumerate((3, 3, 4)):
        argv = small_run(tmp_path / str(index), "--seed", str(seed))
        assert lif_fc_mnist.main(argv) == 0
        weights.append(saved(tmp_path / str(index) / "log").net["0.weight"])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_only_the_first_training_samples_are_used_when_asked(tmp_path, capsys):
    assert lif_fc_mnist.main(small_run(tmp_path, "--train-samples", "7")) == 0
    assert f"7 training and {TEST} test images" in capsys.readouterr().out
    assert saved(tmp_path / "log").results[0].training.samples == 7


# --- checkpoint and resume -----------------------------------------------------------------------


def assert_same_state(one, other):
    """Weights, optimizer and generators equal to the bit."""
    torch.testing.assert_close(one.net, other.net, rtol=0, atol=0)
    torch.testing.assert_close(one.generators, other.generators, rtol=0, atol=0)
    for index, state in one.optimizer["state"].items():
        torch.testing.assert_close(state, other.optimizer["state"][index], rtol=0, atol=0)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    whole, parted = (small_run(tmp_path / name) for name in ("whole", "parted"))
    assert lif_fc_mnist.main([*whole, "--epochs", "3"]) == 0
    assert lif_fc_mnist.main(parted) == 0
    parted_log = str(tmp_path / "parted" / "log")
    for epochs in ("2", "3"):
        assert lif_fc_mnist.main(["--resume", "--log-dir", parted_log, "--epochs", epochs]) == 0
    assert_same_state(saved(parted_log), saved(tmp_path / "whole" / "log"))
    assert [result.epoch for result in saved(parted_log).results] == [1, 2, 3]


def await_next_second():
    """TensorBoard orders event files by the second they were begun in, then by process number."""
    time.sleep(1.001 - time.time() % 1)


KILLED_IN_ITS_SIXTH_PASS = """
import os, signal, sys
from snnkernels.examples import _training, lif_fc_mnist

rates, passes = _training.firing_rates, []

def killed(*args):
    passes.append(args)
    if len(passes) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return rates(*args)

_training.firing_rates = killed
lif_fc_mnist.main(sys.argv[1:])
"""


def test_a_run_killed_in_mid_epoch_resumes_to_the_same_result(tmp_path):
    """Three batches and one test pass make an epoch, so that the sixth pass is in the second."""
    killed, whole = ([*small_run(tmp_path / name), "--epochs", "3"] for name in ("killed", "whole"))
    process = subprocess.run([sys.executable, "-c", KILLED_IN_ITS_SIXTH_PASS, *killed])
    assert process.returncode == -signal.SIGKILL
    killed_log = tmp_path / "killed" / "log"
    assert len(saved(killed_log).results) == 1
    await_next_second()
    assert lif_fc_mnist.main(["--resume", "--log-dir", str(killed_log)]) == 0
    assert lif_fc_mnist.main(whole) == 0
    assert_same_state(saved(killed_log), saved(tmp_path / "whole" / "log"))
    assert [step for step, _ in scalars(killed_log)["test_accuracy"]] == [1, 2, 3]


def test_resuming_where_there_is_no_checkpoint_begins_and_says_so(tmp_path, capsys):
    assert lif_fc_mnist.main(small_run(tmp_path, "--resume")) == 0
    assert "checkpoint.pt: beginning with epoch 1" in capsys.readouterr().err
    assert len(saved(tmp_path / "log").results) == 1


def test_resuming_a_finished_run_trains_no_more_and_says_how_to(tmp_path, capsys):
    assert lif_fc_mnist.main(small_run(tmp_path)) == 0
    before = saved(tmp_path / "log")
    assert lif_fc_mnist.main(["--resume", "--log-dir", str(tmp_path / "log")]) == 0
    assert "more are trained with --epochs 2 or above" in capsys.readouterr().out
    assert_same_state(saved(tmp_path / "log"), before)


@pytest.mark.parametrize(
    ("flag", "value", "before"),
    [
        ("--tau", "3.0", "2.0"),
        ("-T", "3", "2"),
        ("--seed", "1", "0"),
        ("--dataset", "digits", "mnist"),
    ],
)
def test_resuming_with_a_setting_that_changes_what_is_learnt_is_refused(
    tmp_path, capsys, flag, value, before
):
    assert lif_fc_mnist.main(small_run(tmp_path)) == 0
    log = str(tmp_path / "log")
    assert lif_fc_mnist.main(["--resume", "--log-dir", log, flag, value]) == 1
    message = f"the run in {log} was begun with {flag} {before}, and cannot go on with {value}"
    assert message in capsys.readouterr().err


def test_resuming_may_change_how_it_is_computed(tmp_path):
    assert lif_fc_mnist.main(small_run(tmp_path, "--dataset", "auto")) == 0
    log = str(tmp_path / "log")
    argv = ["--resume", "--log-dir", log, "--step-mode", "s", "--backend", "torch"]
    assert lif_fc_mnist.main([*argv, "--epochs", "2", "--dataset", "auto"]) == 0
    settings = saved(log).settings
    assert (settings.step_mode, settings.backend, settings.dataset) == ("s", "torch", "mnist")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04" + bytes(100)])
def test_a_damaged_checkpoint_is_named_and_left_alone(tmp_path, capsys, content):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    assert lif_fc_mnist.main(["--resume", "--log-dir", str(tmp_path)]) == 1
    assert f"{path} is not a checkpoint of this example" in capsys.readouterr().err
    assert path.read_bytes() == content


def test_a_foreign_checkpoint_is_named(tmp_path, capsys):
    torch.save({"weights": torch.zeros(2)}, tmp_path / "checkpoint.pt")
    assert lif_fc_mnist.main(["--resume", "--log-dir", str(tmp_path)]) == 1
    assert "is not a checkpoint of this example" in capsys.readouterr().err


def test_a_new_run_keeps_the_checkpoint_of_an_earlier_one(tmp_path, capsys):
    argv = small_run(tmp_path)
    assert lif_fc_mnist.main(argv) == 0
    first = saved(tmp_path / "log")
    assert lif_fc_mnist.main([*argv, "--seed", "9"]) == 0
    assert "The checkpoint of an earlier run is now" in capsys.readouterr().err
    assert_same_state(Checkpoint.load(tmp_path / "log" / "checkpoint.pt.previous"), first)
    assert saved(tmp_path / "log").settings.seed == 9


def test_a_checkpoint_that_cannot_be_written_whole_leaves_the_one_before(tmp_path, monkeypatch):
    assert lif_fc_mnist.main(small_run(tmp_path)) == 0
    path = tmp_path / "log" / "checkpoint.pt"
    before = path.read_bytes()

    def break_off(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", break_off)
    argv = ["--resume", "--log-dir", str(tmp_path / "log"), "--epochs", "2"]
    assert lif_fc_mnist.main(argv) == 1
    assert path.read_bytes() == before


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


def test_a_full_disk_is_named_with_the_checkpoint_that_is_kept_and_nothing_else_is_left(
    tmp_path, capsys
):
    assert lif_fc_mnist.main(small_run(tmp_path)) == 0
    log = tmp_path / "log"
    before = files(log)
    assert before.keys() == {"checkpoint.pt"}
    with largest_file(50_000):
        assert lif_fc_mnist.main(["--resume", "--log-dir", str(log), "--epochs", "2"]) == 1
    said = capsys.readouterr().err
    assert "error: the checkpoint of epoch 2 can't be written ([Errno 27] File too large" in said
    assert f"--resume goes on from {log / 'checkpoint.pt'}" in said
    assert files(log) == before
    assert lif_fc_mnist.main(["--resume", "--log-dir", str(log), "--epochs", "2"]) == 0
    assert [result.epoch for result in saved(log).results] == [1, 2]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_curves_that_cannot_be_written_are_named_by_their_folder(tmp_path, capsys):
    argv = small_run(tmp_path)
    with largest_file(0):
        assert lif_fc_mnist.main(argv) == 1
    log = tmp_path / "log"
    assert f"error: TensorBoard's curves in {log} can't be written" in capsys.readouterr().err
    assert files(log) == {}


def refused(tmp_path, capsys, main=lif_fc_mnist.main):
    """What is said as a run refuses to go on from the checkpoint, which it leaves alone."""
    path = tmp_path / "log" / "checkpoint.pt"
    before = files(path.parent)
    argv = ["--resume", "--log-dir", str(path.parent), "--epochs", "5"]
    assert main(argv) == 1
    assert files(path.parent) == before
    said = capsys.readouterr().err
    assert f"error: {path} is " in said
    assert "move it away, or name another --log-dir" in said
    return said


@pytest.mark.parametrize("where", [0.25, 0.5, 0.75])
def test_a_checkpoint_with_garbage_inside_is_not_trained_on(tmp_path, capsys, where):
    assert lif_fc_mnist.main(small_run(tmp_path)) == 0
    path = tmp_path / "log" / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    start = int(where * len(content))
    content[start : start + 64] = bytes(range(64))
    path.write_bytes(content)
    said = refused(tmp_path, capsys)
    assert "is not a checkpoint of this example (its record " in said and " is damaged)" in said


def test_a_record_that_is_marked_as_a_folder_counts_as_damaged(tmp_path, capsys):
    """torch would read nothing for it, and leave the weights to chance."""
    assert lif_fc_mnist.main(small_run(tmp_path)) == 0
    path = tmp_path / "log" / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"/data/0"))
    content[entry + 38] = 0x10
    path.write_bytes(content)
    assert "/data/0 is damaged" in refused(tmp_path, capsys)


def change_checkpoint(tmp_path, change):
    """A run of one epoch whose checkpoint is then changed in place by `change`."""
    assert lif_fc_mnist.main(small_run(tmp_path)) == 0
    path = tmp_path / "log" / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def assigned(*keys, value):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (assigned("settings", "epochs", value="many"), "epochs: expected "),
        (assigned("results", 0, "test", "loss", value=None), "loss: expected "),
        (assigned("settings", "unknown", value=1), "unexpected keyword argument 'unknown'"),
        (assigned("format", value=0), "format 0, expected 1"),
    ],
    ids=["setting", "figure", "unknown", "format"],
)
def test_a_checkpoint_whose_values_make_no_sense_is_refused(tmp_path, capsys, change, reason):
    change_checkpoint(tmp_path, change)
    said = refused(tmp_path, capsys)
    assert "is not a checkpoint of this example (" in said and reason in said


def sgd():
    net = torch.nn.Linear(2, 2)
    return torch.optim.SGD(net.parameters()).state_dict()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (assigned("net", "0.weight", value=torch.zeros(3, 4)), "size mismatch for 0.weight"),
        (lambda content: content["net"].pop("2.weight"), 'Missing key(s) in state_dict: "2.weig'),
        (assigned("net", value=[]), "state_dict"),
        (assigned("optimizer", value=sgd()), "its optimizer is no Adam"),
        (
            assigned("optimizer", "state", 0, "exp_avg", value=torch.zeros(3)),
            "its optimizer has exp_avg of other sizes",
        ),
        (assigned("optimizer", value={}), "param_groups"),
        (assigned("generators", "cpu", value=torch.zeros(3)), "RNG"),
    ],
    ids=["sizes", "keys", "kind", "sgd", "moments", "empty", "generator"],
)
def test_a_checkpoint_of_another_network_or_optimizer_is_refused(tmp_path, capsys, change, reason):
    change_checkpoint(tmp_path, change)
    said = refused(tmp_path, capsys)
    assert "is the checkpoint of another network or optimizer than this run's (" in said
    assert reason in said


def test_a_checkpoint_of_the_same_layers_with_another_surrogate_is_refused(tmp_path, capsys):
    assert lif_fc_mnist.main(small_run(tmp_path)) == 0
    said = refused(tmp_path, capsys, surrogate_custom.main)
    assert "this run's (it has other layers or neurons)" in said


def test_a_checkpoint_that_does_not_tell_its_modules_is_taken(tmp_path):
    change_checkpoint(tmp_path, lambda content: content.pop("modules"))
    assert lif_fc_mnist.main(["--resume", "--log-dir", str(tmp_path / "log"), "--epochs", "2"]) == 0


# --- reports and errors --------------------------------------------------------------------------


def scalars(log_dir):
    """TensorBoard's scalars by tag, as (step, value) pairs."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(log_dir))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_tensorboard_shows_both_accuracies_of_each_epoch(tmp_path):
    assert lif_fc_mnist.main([*small_run(tmp_path), "--epochs", "2"]) == 0
    results = saved(tmp_path / "log").results
    assert scalars(tmp_path / "log") == {
        "train_accuracy": [(r.epoch, pytest.approx(r.training.accuracy)) for r in results],
        "test_accuracy": [(r.epoch, pytest.approx(r.test.accuracy)) for r in results],
    }


def test_a_new_run_in_the_same_folder_replaces_the_curves(tmp_path):
    argv = small_run(tmp_path)
    assert lif_fc_mnist.main([*argv, "--epochs", "3"]) == 0
    await_next_second()
    assert lif_fc_mnist.main(argv) == 0
    assert [step for step, _ in scalars(tmp_path / "log")["test_accuracy"]] == [1]


def test_without_tensorboard_the_extra_is_named_before_any_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setattr(_training, "train_epoch", lambda *args: pytest.fail("trained"))
    assert lif_fc_mnist.main(small_run(tmp_path)) == 1
    said = capsys.readouterr().err
    assert "TensorBoard does not import" in said
    assert "pip install 'snnkernels[examples]'" in said


def test_an_epoch_is_reported_with_accuracies_and_seconds(tmp_path, capsys):
    assert lif_fc_mnist.main(small_run(tmp_path, "--backend", "torch")) == 0
    out = capsys.readouterr().out
    assert f"mnist: {TRAIN} training and {TEST} test images; torch backend on" in out
    assert "epoch 1/1: loss" in out and "% test;" in out and "images/s" in out


def test_a_data_set_that_is_not_there_ends_with_a_message_and_leaves_the_checkpoint(
    tmp_path, monkeypatch, capsys
):
    assert lif_fc_mnist.main(small_run(tmp_path)) == 0
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    argv = ["--dataset-dir", str(tmp_path / "nowhere"), "--log-dir", str(tmp_path / "log")]
    assert lif_fc_mnist.main(argv) == 1
    assert "lif_fc_mnist: error: MNIST is not there" in capsys.readouterr().err
    assert saved(tmp_path / "log").results


def test_a_backend_that_cannot_be_had_ends_with_its_message(tmp_path, monkeypatch, capsys):
    def refuse(name, device_type):
        raise BuildError("no C++ compiler")

    monkeypatch.setattr(selection, "resolve", refuse)
    assert lif_fc_mnist.main(small_run(tmp_path, "--backend", "native")) == 1
    assert "lif_fc_mnist: error: no C++ compiler" in capsys.readouterr().err


def test_a_log_dir_that_is_a_file_ends_with_a_message(tmp_path, capsys):
    (tmp_path / "log").write_text("taken")
    assert lif_fc_mnist.main(small_run(tmp_path)) == 1
    assert "lif_fc_mnist: error:" in capsys.readouterr().err


def test_an_interrupt_ends_with_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_training, "train_epoch", interrupt)
    assert lif_fc_mnist.main(small_run(tmp_path)) == 130
    assert "--resume goes on after the last finished epoch" in capsys.readouterr().err
