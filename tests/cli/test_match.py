"""`adapterfit match`: the bases under a folder, the best fit first."""

import json
from pathlib import Path

import pytest

import adapterfit
from adapterfit.cli.main import run as run_command
from adapterfit.errors import CannotCheck
from adapterfit.testing import make
from adapterfit.testing.bases import CONFIGS
from adapterfit.testing.disk import lay


@pytest.fixture
def shelf(tmp_path):
    """An adapter of llama's, and a folder with bases at several depths."""
    lay(tmp_path / "adapter", make.as_files(make.lora("llama")))
    for name, family, more in (
        ("llama", "llama", {}),
        ("deep/er/wide", "llama", {"hidden_size": 192}),
        ("gpt2", "gpt2", {}),
        ("odd", "llama", {"model_type": "unheard-of"}),
    ):
        folder = tmp_path / "bases" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({**CONFIGS[family], **more}))
    (tmp_path / "bases" / "empty").mkdir()
    return tmp_path


def run(capsys, *arguments):
    """Exit code and output of `adapterfit match …`, in this process."""
    code = run_command(["match", *map(str, arguments)])
    return code, capsys.readouterr().out


def test_the_base_it_fits_comes_first_and_what_cannot_be_told_last(shelf):
    found = adapterfit.match(shelf / "adapter", str(shelf / "bases"))
    told = [(str(Path(one.folder).relative_to(shelf / "bases")), one.report.verdict) for one in found.candidates]
    assert told[0] == ("llama", "fits")
    assert told[-1] == ("odd", "cannot-tell")
    assert {name for name, _ in told} == {"llama", "gpt2", "odd", str(Path("deep", "er", "wide"))}


def test_the_screen_names_the_cause_of_each(shelf, capsys):
    code, out = run(capsys, shelf / "adapter", "--among", shelf / "bases")
    assert code == 0
    assert out.startswith("Fits 1 of 4 bases\n")
    assert "wrong-base" in out
    assert "unheard-of" in out


def test_quiet_prints_the_folders_alone(shelf, capsys):
    code, out = run(capsys, shelf / "adapter", "--among", shelf / "bases", "--quiet")
    assert (code, out) == (0, f"{shelf / 'bases' / 'llama'}\n")


def test_json_holds_every_base(shelf, capsys):
    _, out = run(capsys, shelf / "adapter", "--among", shelf / "bases", "--format", "json")
    found = json.loads(out)
    assert found["schema"] == "adapterfit/match/v1"
    assert [entry["verdict"] for entry in found["bases"]] == ["fits", "does-not-fit", "does-not-fit", "cannot-tell"]


@pytest.mark.parametrize(
    ("kept", "code"), [(["gpt2"], 1), (["odd"], 2), ([], 2)], ids=["fits none", "cannot tell of any", "no base"]
)
def test_the_exit_code_tells_the_outcome(shelf, capsys, kept, code):
    import shutil

    for folder in (shelf / "bases").iterdir():
        if folder.name not in kept:
            shutil.rmtree(folder)
    assert run(capsys, shelf / "adapter", "--among", shelf / "bases")[0] == code


def test_two_bases_of_one_shape_are_said_to_be_alike(shelf, capsys):
    (shelf / "bases" / "twin").mkdir()
    (shelf / "bases" / "twin" / "config.json").write_bytes((shelf / "bases" / "llama" / "config.json").read_bytes())
    assert "cannot tell these apart" in run(capsys, shelf / "adapter", "--among", shelf / "bases")[1]


def test_a_link_is_not_followed(shelf):
    (shelf / "bases" / "loop").symlink_to(shelf / "bases")
    assert len(adapterfit.match(shelf / "adapter", str(shelf / "bases")).candidates) == 4


def test_a_folder_too_deep_is_said(shelf):
    deep = shelf.joinpath("bases", *"abcdefgh")
    deep.mkdir(parents=True)
    (deep / "config.json").write_text(json.dumps(CONFIGS["llama"]))
    found = adapterfit.match(shelf / "adapter", str(shelf / "bases"))
    assert len(found.candidates) == 4
    assert len(found.passed) == 1


def test_a_root_that_is_not_there_cannot_be_checked(shelf):
    with pytest.raises(CannotCheck, match="is not a folder"):
        adapterfit.match(shelf / "adapter", str(shelf / "nowhere"))
