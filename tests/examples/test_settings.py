"""The settings of the examples: flags, and the tutorial's prompt."""

import contextlib

import pytest

from snnkernels.examples import _distributed, _training, lif_fc_mnist
from snnkernels.examples._settings import Parser, Settings


@pytest.fixture
def parser():
    return Parser("lif_fc_mnist", "description", Settings(device="cpu"))


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


def test_every_flag_sets_the_setting_of_its_name(parser):
    argv = ["--device", "cpu", "--dataset-dir", "d", "--batch-size", "7", "--learning-rate", "0.5"]
    argv += ["-T", "9", "--tau", "3.5", "--epochs", "4", "--log-dir", "l", "--dataset", "digits"]
    argv += ["--encoder", "direct", "--step-mode", "s", "--backend", "torch", "--seed", "11"]
    argv += ["--train-samples", "100", "--amp", "--cuda-graph", "--resume"]
    expected = Settings(
        "cpu", "d", 7, 0.5, 9, 3.5, 4, "l", "digits", "direct", "s", "torch", 11, 100, True, True
    )
    assert parser.read(argv) == (expected, True)


def test_one_flag_leaves_the_others_at_their_defaults_and_asks_nothing(parser):
    assert parser.read(["--tau", "4"]) == (Settings(device="cpu", tau=4.0), False)


BAD = [
    ("--device", "tpu:7", "a device that PyTorch has here"),
    ("--device", "meta", "a device that PyTorch has here"),
    ("--device", "hpu", "a device that PyTorch has here"),
    ("--dataset-dir", "", "a folder"),
    ("--batch-size", "0", "an integer >= 1"),
    ("--batch-size", "many", "an integer >= 1"),
    ("--batch-size", str(2**63), "an integer >= 1 and < 2**63"),
    ("--learning-rate", "0", "a number > 0"),
    ("--learning-rate", "nan", "a number > 0"),
    ("-T", "-3", "an integer >= 1"),
    ("-T", "2.5", "an integer >= 1"),
    ("--tau", "0.99", "a number >= 1"),
    ("--tau", "inf", "a number >= 1"),
    ("--epochs", "0", "an integer >= 1"),
    ("--dataset", "cifar", "fashion-mnist"),
    ("--encoder", "latency", "poisson"),
    ("--step-mode", "x", "m"),
    ("--backend", "triton", "native"),
    ("--seed", "-1", "an integer >= 0"),
    ("--seed", str(2**64), "an integer >= 0 and < 2**63"),
    ("--train-samples", "0", "an integer >= 1"),
]


@pytest.mark.parametrize(("flag", "value", "expected"), BAD)
def test_a_bad_value_is_refused_with_the_flag_what_was_got_and_what_expected(
    parser, flag, value, expected, capsys
):
    with pytest.raises(SystemExit) as stopped:
        parser.read([f"{flag}={value}"])
    assert stopped.value.code == 2
    said = capsys.readouterr().err.partition(f"argument {flag}: ")[2]
    assert repr(value) in said and expected in said


@pytest.mark.parametrize("flag", ["--taus", "--learning"])
def test_an_unknown_or_shortened_flag_is_refused(parser, flag, capsys):
    with pytest.raises(SystemExit):
        parser.read([flag, "1"])
    assert "unrecognized arguments" in capsys.readouterr().err


def test_help_gives_each_flag_with_its_default(parser, capsys):
    with pytest.raises(SystemExit):
        parser.read(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--cuda-graph" in text and "--resume" in text
    assert "(default: 50)" in text and "(default: 128 (digits: 16))" in text
    assert "None" not in text and "False" not in text


def test_the_prompt_asks_for_the_eight_settings_in_the_tutorials_order(parser, monkeypatch):
    questions = answer(monkeypatch, "cpu", "-d=", "64", "0.01", "20", "3", "2", "l")
    assert parser.read(parser.ask())[0] == Settings("cpu", "-d=", 64, 0.01, 20, 3.0, 2, "l")
    assert len(questions) == 8
    assert questions[1] == "Folder of the MNIST files (dataset-dir) [data]: "


def test_an_empty_answer_takes_the_default_in_brackets(parser, monkeypatch):
    questions = answer(monkeypatch, *[""] * 8)
    assert parser.read(parser.ask())[0] == Settings(device="cpu")
    assert questions[2].endswith("[128 (digits: 16)]: ")


def test_a_bad_answer_is_explained_and_asked_again(parser, monkeypatch, capsys):
    questions = answer(monkeypatch, "nowhere:0", "cpu", "", "-5", " 32 ")
    assert parser.read(parser.ask())[0].batch_size == 32
    assert questions[0] == questions[1] and questions[3] == questions[4]
    out = capsys.readouterr().out
    assert "device: got 'nowhere:0', expected a device that PyTorch has here" in out
    assert "batch-size: got '-5', expected an integer >= 1 and < 2**63. Try again." in out


def test_at_the_end_of_input_the_rest_keeps_its_defaults_and_is_listed(parser, monkeypatch, capsys):
    answer(monkeypatch, "cpu", "elsewhere")
    assert parser.read(parser.ask())[0] == Settings(device="cpu", dataset_dir="elsewhere")
    said = capsys.readouterr().err
    assert "going on with --batch-size 128 (digits: 16), --learning-rate 0.001, -T 50" in said


@pytest.fixture
def trained(monkeypatch):
    """The settings that a run would be trained with."""
    found = []
    monkeypatch.setattr(_training, "train", lambda settings, *args, build: found.append(settings))
    monkeypatch.setattr(_distributed, "joined", contextlib.nullcontext)
    return found


def test_an_example_without_flags_trains_on_the_answers(monkeypatch, trained):
    answer(monkeypatch, "cpu", "d", "5", "0.01", "2", "2", "1", "l")
    assert lif_fc_mnist.main([]) == 0
    assert trained == [Settings("cpu", "d", 5, 0.01, 2, 2.0, 1, "l")]


def test_under_torchrun_nobody_is_asked(monkeypatch, trained):
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    questions = answer(monkeypatch)
    assert lif_fc_mnist.main([]) == 0
    assert trained == [Settings()] and not questions
