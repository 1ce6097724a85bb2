"""`adapterfit why`: from a pasted text to an answer on the screen, in JSON and in Python."""

from __future__ import annotations

import json
import time
from importlib import resources

import jsonschema
import pytest

import adapterfit
from adapterfit.cli.main import run
from adapterfit.diagnose.recognition import confirm, recognise
from adapterfit.read.log import read_log
from adapterfit.report import _why
from adapterfit.testing import make
from adapterfit.testing.disk import lay

SCHEMA = json.loads(resources.files("adapterfit.report").joinpath("schema/why-v1.json").read_text("utf-8"))
GROWN = (
    "RuntimeError: Error(s) in loading state_dict for PeftModelForCausalLM:\n"
    "\tsize mismatch for base_model.model.lm_head.modules_to_save.default.weight: copying a param with shape "
    "torch.Size([258, 64]) from checkpoint, the shape in current model is torch.Size([256, 64]).\n"
)
TEXTS = {
    "certain": GROWN,
    "several": "Found missing adapter keys while loading the checkpoint: ['base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight']",
    "nothing": "hello",
    "empty": "",
    "hostile": "ValueError: Target modules {'\x1b]0;x\x07[bold]<b>\u202ereversed'} not found in the base model.",
    "chained": f"KeyError: 'x'\nDuring handling of the above exception\n{GROWN}ValueError: vLLM does not yet support DoRA.",
}


def answer(text):
    return json.loads(_why.render(adapterfit.why(text), "json"))


# ------------------------------------------------------------------------------------------- answers


def test_python_gives_the_cause_with_the_fix_in_the_users_own_numbers():
    cause = adapterfit.why(GROWN).causes[0]
    assert (cause.id, cause.confidence) == ("vocabulary-grown", "high")
    assert "base.resize_token_embeddings(258)" in cause.fix.summary
    assert "torch.Size([258, 64])" in cause.evidence[0]


def test_one_wording_has_several_causes_and_shapes_decide():
    line = "size mismatch for base_model.model.model.embed_tokens.weight: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    pairs = {
        ("258, 64", "256, 64"): "vocabulary-grown",
        ("32011, 64", "32064, 64"): "vocabulary-shrunk",
        ("151936, 64", "151665, 64"): "base-resized-by-loader",
        ("0", "256, 64"): "zero3-empty-weights",
    }
    found = {sizes: adapterfit.why(line.format(*sizes)).causes[0].id for sizes in pairs}
    assert found == pairs


def test_a_vocabulary_that_differs_beside_all_other_widths_is_another_base():
    line = "size mismatch for base_model.model.{}: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    text = "\n".join(
        [
            line.format("model.embed_tokens.weight", "258, 64", "256, 96"),
            line.format("model.layers.0.self_attn.q_proj.lora_A.default.weight", "8, 64", "8, 96"),
        ]
    )
    assert adapterfit.why(text).causes[0].id == "wrong-base"


def test_two_answers_that_both_claim_certainty_lose_it():
    causes = adapterfit.why(f"{GROWN}\nValueError: LoRA rank 64 is greater than max_lora_rank 16.").causes
    assert {cause.id for cause in causes[:2]} == {"vocabulary-grown", "rank-over-engine-limit"}
    assert {cause.confidence for cause in causes} <= {"medium", "low"}


@pytest.mark.parametrize("text", ["the weather is fine today", "we use torch.compile"])
def test_a_text_that_tells_nothing_of_an_adapter_has_no_cause(text):
    assert adapterfit.why(text).causes == ()


def test_an_error_that_no_cause_accounts_for_is_said():
    assert adapterfit.why(f"{GROWN}\nZeroDivisionError: division by zero").unread == (
        "ZeroDivisionError: division by zero",
    )


def test_a_guess_from_words_is_never_more_than_low():
    causes = adapterfit.why("we load the LoRA adapter and use torch.compile and kohya").causes
    assert {cause.confidence for cause in causes} == {"low"}


def test_guesses_alone_are_headed_as_such():
    guessed = adapterfit.why("we load the LoRA adapter and use torch.compile")
    assert _why.render(guessed, "text").startswith("CANNOT TELL for sure")
    assert _why.render(adapterfit.why(GROWN), "text").startswith("vocabulary-grown")


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    ["size mismatch for a.lora_A.weight: ", "Target modules ['x'", "base_model.model.a.lora_A.b ", "00000000: 20 "],
)
def test_a_hostile_text_is_answered_in_bounded_time(piece):
    text = piece * (2 * 1024 * 1024 // len(piece))
    started = time.process_time()
    adapterfit.why(text)
    assert time.process_time() - started < 40


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_answers_come_in_order(text):
    likelihoods = [cause.likelihood for cause in adapterfit.why(text).causes]
    assert likelihoods == sorted(likelihoods, reverse=True)
    assert len(likelihoods) <= 7


# ------------------------------------------------------------------------------------------- with the files


def sample(tmp_path, **changes):
    good = make.lora("llama", base=make.base("llama", vocab_size=258), modules_to_save=["lm_head"])
    lay(tmp_path / "adapter", make.as_files(good))
    lay(tmp_path / "base", {"config.json": json.dumps(dict(make.base("llama", **changes).config)).encode()})
    return str(tmp_path / "adapter"), str(tmp_path / "base")


def test_the_files_confirm_an_answer(tmp_path):
    diagnosis = adapterfit.why("size mismatch for lm_head", *sample(tmp_path))
    assert (diagnosis.causes[0].id, diagnosis.causes[0].confirmed) == ("vocabulary-grown", "yes")
    assert diagnosis.report.verdict == "does-not-fit"


def test_the_files_rule_an_answer_out(tmp_path):
    adapter, base = sample(tmp_path, vocab_size=258)
    diagnosis = adapterfit.why(GROWN, adapter, base)
    (grown,) = (cause for cause in diagnosis.causes if cause.id == "vocabulary-grown")
    assert (grown.confirmed, grown.confidence) == ("no", "low")


def test_what_only_the_files_know_is_added(tmp_path):
    diagnosis = adapterfit.why("something failed", *sample(tmp_path))
    assert [cause.id for cause in diagnosis.causes] == ["vocabulary-grown"]


def test_without_a_base_what_was_not_checked_stays_as_it_is():
    report = adapterfit.check(make.lora("llama").adapter)
    diagnosis = recognise(read_log(GROWN))
    assert confirm(diagnosis, report).causes[0].confirmed == ""


# ------------------------------------------------------------------------------------------- JSON


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_every_answer_obeys_the_schema(text):
    document = answer(text)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert list(document) == list(SCHEMA["properties"])
    for cause in document["causes"]:
        assert list(cause) == list(SCHEMA["$defs"]["cause"]["properties"])


def test_an_answer_with_files_obeys_the_schema(tmp_path):
    document = json.loads(_why.render(adapterfit.why(GROWN, *sample(tmp_path)), "json"))
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["causes"][0]["confirmed"] is True
    assert document["checked"] == {"verdict": "does-not-fit", "predicted": "raises"}


def test_the_schema_is_itself_valid():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_json_tells_the_chain():
    symptoms = answer(TEXTS["chained"])["symptoms"]
    assert (symptoms["innermost"]["kind"], symptoms["outermost"]["kind"]) == ("KeyError", "ValueError")
    assert symptoms["misshapen"] == 1


# ------------------------------------------------------------------------------------------- the command


def test_a_file_is_read(tmp_path, capsys):
    path = tmp_path / "log.txt"
    path.write_text(GROWN)
    assert run(["why", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("vocabulary-grown: high confidence\n")
    assert "base.resize_token_embeddings(258)" in out


@pytest.mark.parametrize("arguments", [("why",), ("why", "-"), ("why", "--format", "text")], ids=" ".join)
def test_standard_input_is_read_to_its_end(adapterfit, arguments):
    result = adapterfit(*arguments, stdin=GROWN)
    assert (result.returncode, result.stderr) == (0, "")
    assert "vocabulary-grown" in result.stdout


def test_a_text_that_does_not_tell_is_exit_code_2(adapterfit):
    result = adapterfit("why", stdin="hello")
    assert result.returncode == 2
    assert result.stdout.startswith("CANNOT TELL")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("nowhere.txt",), "No such file"),
        (("."), "directory"),
        (("--base", "x"), "--adapter"),
        (("--adapter", "nowhere"), "nowhere"),
    ],
    ids=["no file", "a folder", "a base alone", "no adapter"],
)
def test_what_cannot_be_read_is_said_in_short_and_exit_code_2(adapterfit, arguments, word):
    result = adapterfit("why", *arguments, stdin=GROWN)
    assert result.returncode == 2
    assert result.stdout == ""
    assert word in result.stderr
    assert "Traceback" not in result.stderr


def test_output_goes_to_a_file(adapterfit, tmp_path):
    result = adapterfit("why", "--format", "json", "--output", "answer.json", stdin=GROWN)
    assert (result.returncode, result.stdout) == (0, "")
    assert json.loads((tmp_path / "answer.json").read_text())["schema"] == "adapterfit/why/v1"


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_hostile_text_leaves_as_inert_text(adapterfit, form):
    result = adapterfit("why", "--format", form, "--color", "never", stdin=TEXTS["hostile"])
    assert result.returncode == 0
    assert all(char.isprintable() or char == "\n" for char in result.stdout)


def test_bytes_that_are_no_text_do_not_stop_it(tmp_path):
    path = tmp_path / "log.bin"
    path.write_bytes(bytes(range(256)) * 100 + GROWN.encode())
    assert run(["why", str(path)]) == 0


def test_a_file_that_is_too_long_to_be_a_log_is_refused(tmp_path, capsys, monkeypatch):
    from adapterfit import limits

    monkeypatch.setattr(limits, "LOG_BYTES", 1000)
    path = tmp_path / "log.txt"
    path.write_text("x" * 1001)
    assert run(["why", str(path)]) == 2
    assert "longer than 1,000 bytes" in capsys.readouterr().err
