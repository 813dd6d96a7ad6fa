import pytest

from snnkernels._build.archs import Arch, format_archs, parse_archs


@pytest.mark.parametrize("text", ["9.0", "90", "sm_90", "compute_90", "SM_90", " 9.0 "])
def test_one_architecture_reads_in_every_common_spelling(text):
    assert parse_archs(text) == (Arch(9, 0),)


@pytest.mark.parametrize("text", ["8.0;12.1+PTX", "8.0,12.1+PTX", "8.0 12.1+ptx", "80; sm_121+PTX"])
def test_a_list_reads_with_every_common_separator(text):
    assert parse_archs(text) == (Arch(8, 0), Arch(12, 1, ptx=True))


def test_a_suffix_is_kept_and_a_repetition_is_dropped():
    assert parse_archs("9.0a;9.0A") == (Arch(9, 0, "a"),)


@pytest.mark.parametrize("text", ["", "hopper", "9", "9.0;", "9.0.1", "-9.0", "9.0b"])
def test_what_is_no_architecture_is_refused_by_name(text):
    with pytest.raises(ValueError, match="^--arch: expected GPU architectures such as"):
        parse_archs(text, name="--arch")


def test_writing_and_reading_give_the_same_architectures():
    archs = (Arch(7, 5), Arch(9, 0, "a"), Arch(12, 1, ptx=True))
    assert parse_archs(format_archs(archs)) == archs


def test_ptx_adds_code_for_newer_gpus():
    assert Arch(9, 0).gencode == ("-gencode=arch=compute_90,code=sm_90",)
    assert Arch(12, 1, ptx=True).gencode[1] == "-gencode=arch=compute_121,code=compute_121"


@pytest.mark.parametrize(
    ("arch", "capability", "runs"),
    [
        (Arch(8, 0), (8, 0), True),
        (Arch(8, 0), (8, 6), True),
        (Arch(8, 6), (8, 0), False),
        (Arch(8, 0), (9, 0), False),
        (Arch(8, 0, ptx=True), (9, 0), True),
        (Arch(9, 0, "a"), (9, 0), True),
        (Arch(10, 0, "a"), (10, 3), False),
    ],
)
def test_an_architecture_knows_the_gpus_it_runs_on(arch, capability, runs):
    assert arch.runs_on(capability) is runs
