"""Repairs beyond the findings: the base's name, copies of the base's own weights, DoRA's names for transformers' loader."""

import json
import struct

import pytest

import adapterfit
from adapterfit.fixing import read_plan
from adapterfit.plan.file import as_json
from adapterfit.report._receipt import render_plan
from adapterfit.testing import make
from adapterfit.testing.disk import lay

ROWS, WIDTH = 256, 64
COPY = "base_model.model.model.embed_tokens.weight"


def rows(count, start=0):
    """Rows of distinct float32 numbers that bfloat16 holds as well."""
    return b"".join(struct.pack("<f", float((start + at) % 251 + 1)) * WIDTH for at in range(count))


def short(data):
    """float32 to bfloat16, where nothing is lost."""
    return b"".join(data[at + 2 : at + 4] for at in range(0, len(data), 4))


def filled(tensors):
    """A safetensors file; name → dtype, shape, bytes."""
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(data for *_, data in tensors.values())


@pytest.fixture
def base(tmp_path):
    """A base whose embedding has numbers, in bfloat16."""
    config = json.dumps(dict(make.base("llama").config)).encode()
    weights = filled({"model.embed_tokens.weight": ("BF16", [ROWS, WIDTH], short(rows(ROWS)))})
    return str(lay(tmp_path / "base", {"config.json": config, "model.safetensors": weights}))


def carrying(folder, count, data, more=None):
    """A LoRA beside a copy of the embedding with these rows."""
    sample = make.lora()
    tensors = {t.name: (t.dtype, list(t.shape), bytes(4 * t.shape[0] * t.shape[1])) for t in sample.adapter.tensors}
    tensors[COPY] = ("F32", [count, WIDTH], data)
    return lay(folder, {**make.as_files(sample), make.WEIGHTS: filled(tensors), **(more or {})})


def kept(folder):
    return {one.name for one in adapterfit.check(str(folder)).case.adapter.tensors}


def test_a_copy_of_the_base_is_left_out_where_that_is_asked_for_and_a_second_time_nothing_is_done(base, tmp_path):
    adapter = carrying(tmp_path / "a", ROWS, rows(ROWS))
    assert adapterfit.fix(adapter, base, tmp_path / "no").out == ""
    receipt = adapterfit.fix(adapter, base, tmp_path / "out", drop_copies=True)
    assert [step.safety for step in receipt.plan.steps] == ["safe"]
    assert receipt.proof.holds
    assert kept(adapter) - kept(tmp_path / "out") == {COPY}
    assert adapterfit.fix(tmp_path / "out", base, tmp_path / "again", drop_copies=True).out == ""


def test_a_copy_of_which_one_number_differs_stays(base, tmp_path):
    data = rows(ROWS)
    adapter = carrying(tmp_path / "a", ROWS, data[:-4] + struct.pack("<f", 1.5))
    assert adapterfit.fix(adapter, base, tmp_path / "out", drop_copies=True).out == ""


def test_fewer_rows_that_are_the_bases_own_are_no_hindrance(base, tmp_path):
    adapter = carrying(tmp_path / "a", ROWS - 6, rows(ROWS - 6))
    assert adapterfit.check(adapter, base).predicted == "raises"
    receipt = adapterfit.fix(adapter, base, tmp_path / "out")
    assert (receipt.plan.before, receipt.plan.after) == ("does-not-fit", "fits")
    assert adapterfit.fix(tmp_path / "out", base, tmp_path / "again").out == ""


def test_fewer_rows_that_were_trained_are_refused(base, tmp_path):
    adapter = carrying(tmp_path / "a", ROWS - 6, rows(ROWS - 6, start=1))
    receipt = adapterfit.fix(adapter, base, tmp_path / "out", unsafe=True)
    assert receipt.out == ""
    assert receipt.plan.after == "does-not-fit"


def test_rows_of_added_tokens_are_given_up_only_where_that_is_asked_for(base, tmp_path):
    adapter = carrying(tmp_path / "a", ROWS + 2, rows(ROWS + 2))
    receipt = adapterfit.fix(adapter, base, tmp_path / "out")
    assert receipt.out == ""
    assert [step.far for step in receipt.plan.left_out] == [
        "2 rows are lost: tokens that were added have no embedding then"
    ]
    assert adapterfit.fix(adapter, base, tmp_path / "out", unsafe=True).plan.after == "fits"


def test_without_the_bases_numbers_no_copy_is_called_one(tmp_path):
    adapter = carrying(tmp_path / "a", ROWS - 6, rows(ROWS - 6))
    assert adapterfit.fix(adapter, make.base("llama"), tmp_path / "out", drop_copies=True).out == ""


def test_the_bases_name_is_set_to_what_the_user_says_and_to_nothing_else(base, tmp_path):
    adapter = lay(tmp_path / "a", make.as_files(make.lora(base_model_name_or_path="../llama")))
    assert adapterfit.fix(adapter, base, tmp_path / "no").out == ""
    receipt = adapterfit.fix(adapter, base, tmp_path / "out", base_name="owner/llama")
    assert receipt.files == {make.CONFIG: "rewritten", make.WEIGHTS: "copied"}
    before, after = (json.loads((folder / make.CONFIG).read_bytes()) for folder in (adapter, tmp_path / "out"))
    assert after == {**before, "base_model_name_or_path": "owner/llama"}
    assert adapterfit.fix(tmp_path / "out", base, tmp_path / "again", base_name="owner/llama").out == ""


def test_magnitudes_of_dora_are_named_as_transformers_loader_reads_them_only_for_it(base, tmp_path):
    adapter = lay(tmp_path / "a", make.as_files(make.lora(use_dora=True)))
    assert adapterfit.fix(adapter, base, tmp_path / "no").out == ""
    receipt = adapterfit.fix(adapter, base, tmp_path / "out", consumer="transformers==5.23.0")
    assert receipt.plan.after == "fits"
    changed = kept(tmp_path / "out") - kept(adapter)
    assert changed
    assert all(name.endswith(".lora_magnitude_vector.weight") for name in changed)
    assert adapterfit.fix(tmp_path / "out", base, tmp_path / "again", consumer="transformers==5.23.0").out == ""


def test_a_plan_that_somebody_edited_to_scale_a_tensor_is_not_proven(base, tmp_path):
    import dataclasses

    from adapterfit.edits import Scale
    from adapterfit.errors import NotProven

    sample = make.lora().renamed(lambda name: "module." + name)
    one_and_a_half = struct.pack("<f", 1.5)
    tensors = {
        t.name: ("F32", list(t.shape), one_and_a_half * (t.shape[0] * t.shape[1])) for t in sample.adapter.tensors
    }
    adapter = lay(tmp_path / "a", {**make.as_files(sample), make.WEIGHTS: filled(tensors)})
    plan = adapterfit.fix(adapter, base).plan
    (step,) = plan.steps
    more = dataclasses.replace(step, edits=(*step.edits, Scale(step.edits[0].new, 2.0)))
    with pytest.raises(adapterfit.CannotCheck, match="--unsafe"):
        adapterfit.fix(adapter, base, tmp_path / "out", plan=dataclasses.replace(plan, steps=(more,)))
    with pytest.raises(NotProven):
        adapterfit.fix(adapter, base, tmp_path / "out", plan=dataclasses.replace(plan, steps=(more,)), unsafe=True)
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------ what the user tells


def test_the_strength_that_the_user_tells_is_taken_without_more_ado_and_not_called_safe(base, tmp_path):
    files = make.as_files(make.lora())
    adapter = lay(tmp_path / "a", {make.WEIGHTS: files[make.WEIGHTS]})
    assert adapterfit.fix(adapter, base, tmp_path / "no").out == ""
    receipt = adapterfit.fix(adapter, base, tmp_path / "out", alpha=32)
    (step,) = receipt.plan.steps
    assert (step.cause, step.safety, receipt.plan.after) == ("adapter-config-missing", "told", "fits")
    assert json.loads((tmp_path / "out" / make.CONFIG).read_bytes())["lora_alpha"] == 32
    assert "(as you told: no tensor shows it: the adapter is as strong as you say" in render_plan(receipt.plan)
    plan = read_plan(json.dumps(as_json(adapterfit.fix(adapter, base, alpha=32).plan)).encode())
    assert adapterfit.fix(adapter, base, tmp_path / "by-plan", plan).out


def test_a_rank_that_is_wrong_is_set_with_the_strength_that_the_user_tells(base, tmp_path):
    adapter = lay(tmp_path / "a", make.as_files(make.lora(r=4).with_config(r=16, lora_alpha=16)))
    assert adapterfit.fix(adapter, base, tmp_path / "no").out == ""
    receipt = adapterfit.fix(adapter, base, tmp_path / "out", alpha=8)
    assert [(step.cause, step.safety) for step in receipt.plan.steps] == [("rank-mismatch", "told")]
    config = json.loads((tmp_path / "out" / make.CONFIG).read_bytes())
    assert (config["r"], config["lora_alpha"]) == (4, 8)


# ------------------------------------------------------------------------------------------------ heads of prompts

HEAD = {"classifier.weight": ("BF16", [3, 64], bytes(range(128)) * 3), "classifier.bias": ("BF16", [3], b"abcdef")}


@pytest.fixture
def classifier(tmp_path):
    """A classifier whose head has numbers."""
    config = json.dumps({**make.base("bert").config, "num_labels": 3}).encode()
    return str(lay(tmp_path / "bert", {"config.json": config, "model.safetensors": filled(HEAD)}))


def prompt(folder, **fields):
    """A prompt for it as PEFT 0.15 saved one: with these fields, and without a head."""
    sizes = {"encoder_hidden_size": 64, "num_attention_heads": 4, "num_layers": 2, "token_dim": 64}
    of_0_15 = {
        **dict.fromkeys(("auto_mapping", "revision")),
        "prefix_projection": False,
        "num_transformer_submodules": 1,
    }
    options = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4, "task_type": "SEQ_CLS", **sizes, **of_0_15}
    made = make.adapter("bert", **options, **fields)
    return lay(folder, make.as_files(made.dropped(lambda name: "classifier" in name)))


def test_the_bases_own_head_is_put_beside_a_prompt_of_peft_0_15_only_where_that_is_asked_for(classifier, tmp_path):
    adapter = prompt(tmp_path / "a")
    refused = adapterfit.fix(adapter, classifier, tmp_path / "no")
    assert (refused.out, [step.safety for step in refused.plan.left_out]) == ("", ["unsafe"])
    receipt = adapterfit.fix(adapter, classifier, tmp_path / "out", unsafe=True)
    assert receipt.plan.after == "fits"
    written = (tmp_path / "out" / make.WEIGHTS).read_bytes()
    assert all(data in written for *_, data in HEAD.values())
    assert [one.detail for one in receipt.proof.shown if one.what == "bytes"] == [
        "tensors: 1 copied bit by bit, 2 made of others without computing"
    ]
    assert adapterfit.fix(tmp_path / "out", classifier, tmp_path / "again").plan.before == "fits"


def test_a_head_is_not_taken_from_the_base_where_a_later_peft_wrote_the_prompt_or_the_base_has_none(
    classifier, tmp_path
):
    later = prompt(tmp_path / "a", peft_version="0.21.2")
    assert adapterfit.fix(later, classifier, unsafe=True).plan.steps == ()
    bare = lay(tmp_path / "bare", {"config.json": json.dumps(dict(make.base("bert").config)).encode()})
    assert adapterfit.fix(prompt(tmp_path / "b"), bare, unsafe=True).plan.steps == ()


# ------------------------------------------------------------------------------------------------ trained embeddings


def saving(folder, count, data, **config):
    """A LoRA beside an embedding that was trained whole, with these rows."""
    sample = make.lora(base=make.base("llama", vocab_size=count), modules_to_save=["embed_tokens"], **config)
    tensors = {t.name: (t.dtype, list(t.shape), bytes(4 * t.shape[0] * t.shape[1])) for t in sample.adapter.tensors}
    tensors[COPY] = ("F32", [count, WIDTH], data)
    return lay(folder, {**make.as_files(sample), make.WEIGHTS: filled(tensors)})


def embedding(folder):
    """The bytes of the embedding in a folder's file."""
    (info,) = [one for one in adapterfit.check(str(folder)).case.adapter.tensors if one.name == COPY]
    return (folder / make.WEIGHTS).read_bytes()[slice(*info.span)]


def test_an_embedding_trained_on_fewer_rows_gets_the_last_ones_of_the_base_exactly(base, tmp_path):
    trained = rows(ROWS - 6)[: -4 * WIDTH] + struct.pack("<f", 0.3) * WIDTH
    adapter = saving(tmp_path / "a", ROWS - 6, trained)
    receipt = adapterfit.fix(adapter, base, tmp_path / "out")
    assert [(step.cause, step.safety) for step in receipt.plan.steps] == [("vocabulary-shrunk", "safe")]
    assert (receipt.plan.after, receipt.proof.holds) == ("fits", True)
    assert embedding(tmp_path / "out") == trained + rows(ROWS)[-6 * 4 * WIDTH :]
    assert adapterfit.fix(tmp_path / "out", base, tmp_path / "again").out == ""


def test_an_embedding_of_which_no_row_is_the_bases_may_be_of_another_base(base, tmp_path):
    adapter = saving(tmp_path / "a", ROWS - 6, rows(ROWS - 6, start=1))
    receipt = adapterfit.fix(adapter, base, tmp_path / "out")
    assert receipt.out == ""
    assert [step.far for step in receipt.plan.left_out] == [
        "nothing in the file shows that this is the base of the training"
    ]


@pytest.mark.parametrize(("tokens", "safety"), [(ROWS, "safe"), (ROWS + 2, "unsafe"), (None, "unsafe")])
def test_rows_behind_the_bases_are_cut_off_where_no_token_has_them(tokens, safety, base, tmp_path):
    data = rows(ROWS + 2)
    adapter = saving(tmp_path / "a", ROWS + 2, struct.pack("<f", 0.3) * WIDTH + data[4 * WIDTH :])
    if tokens is not None:
        vocabulary = {f"t{at}": at for at in range(tokens)}
        lay(adapter, {"tokenizer.json": json.dumps({"model": {"vocab": vocabulary}, "added_tokens": []}).encode()})
    plan = adapterfit.fix(adapter, base).plan
    assert [(step.cause, step.safety) for step in (*plan.steps, *plan.left_out)] == [("vocabulary-grown", safety)]
    receipt = adapterfit.fix(adapter, base, tmp_path / "out", unsafe=safety == "unsafe")
    assert (receipt.plan.after, receipt.proof.holds) == ("fits", True)
    assert embedding(tmp_path / "out") == embedding(adapter)[: -2 * 4 * WIDTH]


def test_a_plan_that_takes_rows_of_the_base_is_refused_with_another_base(base, tmp_path):
    adapter = saving(tmp_path / "a", ROWS - 6, rows(ROWS - 6))
    plan = adapterfit.fix(adapter, base).plan
    config = json.dumps(dict(make.base("llama").config)).encode()
    other = filled({"model.embed_tokens.weight": ("BF16", [ROWS, WIDTH], short(rows(ROWS, start=1)))})
    lay(tmp_path / "other", {"config.json": config, "model.safetensors": other})
    for strange in (str(tmp_path / "other"), make.base("llama")):
        with pytest.raises(adapterfit.CannotCheck, match="--unsafe"):
            adapterfit.fix(adapter, strange, tmp_path / "out", plan=plan)
    with pytest.raises(adapterfit.errors.NotProven, match="not the ones that the plan was made for"):
        adapterfit.fix(adapter, str(tmp_path / "other"), tmp_path / "out", plan=plan, unsafe=True)
    with pytest.raises(adapterfit.CannotCheck, match="is not in"):
        adapterfit.fix(adapter, make.base("llama"), tmp_path / "out", plan=plan, unsafe=True)
    assert not (tmp_path / "out").exists()
    assert adapterfit.fix(adapter, base, tmp_path / "out", plan=plan).proof.holds


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda name: "module." + name, id="DDP's prefix"),
        pytest.param(lambda name: name.replace("base_model.model.", ""), id="no prefix of PEFT's"),
        pytest.param(lambda name: name.replace(".weight", ".mine.weight"), id="an adapter's name"),
        pytest.param(
            lambda name: name.replace("layers.0.", "layers.0._fsdp_wrapped_module."), id="FSDP around a layer"
        ),
    ],
)
def test_a_config_is_written_anew_where_the_names_are_wrong_too(change, tmp_path):
    sample = make.lora(r=4).renamed(change)
    files = {name: data for name, data in make.as_files(sample).items() if name != make.CONFIG}
    adapter = lay(tmp_path / "adapter", files)
    receipt = adapterfit.fix(adapter, sample.case.base, tmp_path / "out", alpha=8)
    assert receipt.plan.steps[0].cause == "adapter-config-missing"
    assert len(receipt.plan.steps) == 2
    report = adapterfit.check(tmp_path / "out", base=sample.case.base)
    assert (report.verdict, report.case.adapter.config.raw["r"]) == ("fits", 4)


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_of_biases_alone_no_module_is_taken_for_saved(bias, tmp_path):
    plain, own = (
        make.lora("bert", bias=bias, target_modules=["query"], task_type=None),
        ".attention.self.query.base_layer",
    )
    layers = [f"base_model.model.bert.encoder.layer.{layer}" for layer in range(2)]
    others = [".attention.self.key", ".output.LayerNorm"] if bias == "all" else []
    sample = plain.added({f"{layer}{module}.bias": (64,) for layer in layers for module in [own, *others]})
    files = {name: data for name, data in make.as_files(sample).items() if name != make.CONFIG}
    adapterfit.fix(lay(tmp_path / "adapter", files), sample.case.base, tmp_path / "out", alpha=8)
    fields = json.loads((tmp_path / "out" / make.CONFIG).read_bytes())
    assert (fields["bias"], fields.get("modules_to_save")) == (bias, None)
    assert adapterfit.check(tmp_path / "out", base=sample.case.base).verdict == "fits"
