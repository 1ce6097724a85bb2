"""What is said about an exception, in this process: with the files where a frame knows them, else by the words alone."""

from __future__ import annotations

import pytest
import real

from adapterfit.guard.explain import explanation

pytestmark = pytest.mark.exact


def caught(call, *arguments, **named):
    with pytest.raises(Exception) as info, real.quiet():
        call(*arguments, **named)
    return info.value


@pytest.fixture
def adapter(tmp_path):
    return real.saved(tmp_path / "adapter")


FAILING = {
    "another rank": (lambda folder: real.reconfigure(folder, r=8), {}, "rank-mismatch"),
    "no such targets": (lambda folder: real.reconfigure(folder, target_modules=["nope"]), {}, "targets-narrower"),
    "a wider base": (lambda folder: None, {"hidden_size": 96}, "wrong-base"),
    "a method that is none": (lambda folder: real.reconfigure(folder, peft_type="LOAR"), {}, "unknown-peft-type"),
    "no config": (lambda folder: (folder / real.CONFIG).unlink(), {}, "adapter-config-missing"),
    "a config that is no JSON": (lambda folder: (folder / real.CONFIG).write_text("{", "utf-8"), {}, "config-not-json"),
    "weights cut short": (
        lambda folder: (folder / real.WEIGHTS).write_bytes((folder / real.WEIGHTS).read_bytes()[:200]),
        {},
        "damaged-weights-file",
    ),
}


@pytest.mark.parametrize("what", FAILING)
def test_the_files_are_looked_at_where_the_loaders_frame_knows_them(what, adapter):
    spoil, changes, cause = FAILING[what]
    spoil(adapter)
    text = explanation(caught(real.plain_load, real.base(**changes), adapter))
    assert "why this adapter does not load" in text
    assert cause in text


def test_a_second_adapter_on_a_model_that_has_one(adapter, tmp_path):
    model = real.plain_load(real.base(), adapter)
    other = real.saved(tmp_path / "other", real.base(hidden_size=96), **real.LORA)
    assert "wrong-base" in explanation(caught(model.load_adapter, str(other), adapter_name="second"))


def test_a_state_dict_loaded_by_hand_is_explained_by_its_words(adapter):
    error = caught(real.base().load_state_dict, real.tensors(adapter))
    assert "what this may be" in explanation(error)


def test_an_error_in_a_subfolder_is_looked_for_there(adapter, tmp_path):
    (tmp_path / "all").mkdir()
    adapter.rename(tmp_path / "all" / "best")
    real.reconfigure(tmp_path / "all" / "best", r=8)
    error = caught(real.plain_load, real.base(), tmp_path / "all", subfolder="best")
    assert "rank-mismatch" in explanation(error)


@pytest.mark.parametrize("error", [ValueError("the batch is empty"), KeyError("a"), RuntimeError("CUDA out of memory")])
def test_other_errors_get_no_words(error):
    assert explanation(error) == ""


def test_a_circle_of_exceptions_ends():
    one, two = ValueError("lora_A"), ValueError("lora_B")
    one.__cause__, two.__cause__ = two, one
    assert isinstance(explanation(one), str)


class Treacherous(Exception):
    """Its text cannot be had."""

    def __str__(self):
        raise RuntimeError("no text")


def test_an_explanation_never_fails():
    assert explanation(Treacherous()) == ""


def test_hostile_names_are_shown_inert(adapter):
    real.reconfigure(adapter, target_modules=["\u001b[31mnope\u202e"])
    text = explanation(caught(real.plain_load, real.base(), adapter))
    assert "\u001b" not in text
    assert "\u202e" not in text
