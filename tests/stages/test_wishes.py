"""Repairs beyond the findings: the base's name, copies of the base's own weights, DoRA's names for transformers' loader."""

import json
import struct

import pytest

import adapterfit
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
    with pytest.raises(NotProven):
        adapterfit.fix(adapter, base, tmp_path / "out", plan=dataclasses.replace(plan, steps=(more,)))
    assert not (tmp_path / "out").exists()


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
    with pytest.raises(adapterfit.errors.NotProven, match="not the ones that the plan was made for"):
        adapterfit.fix(adapter, str(tmp_path / "other"), tmp_path / "out", plan=plan)
    with pytest.raises(adapterfit.CannotCheck, match="is not in"):
        adapterfit.fix(adapter, make.base("llama"), tmp_path / "out", plan=plan)
    assert not (tmp_path / "out").exists()
    assert adapterfit.fix(adapter, base, tmp_path / "out", plan=plan).proof.holds
