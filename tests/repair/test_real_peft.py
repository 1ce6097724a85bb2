"""Broken on purpose, mended, loaded by the real PEFT: the logits are those of the unbroken adapter, bit for bit."""

import json

import mended
import pytest

pytestmark = pytest.mark.exact

PREFIX = "base_model.model."
BREAKS = {
    "torch.compile's prefix": lambda held: {PREFIX + "_orig_mod." + n[len(PREFIX) :]: t for n, t in held.items()},
    "DataParallel's prefix": lambda held: {"module." + n: t for n, t in held.items()},
    "PEFT's own prefix missing": lambda held: {n[len(PREFIX) :]: t for n, t in held.items()},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    base = mended.base_folder("llama", str(root / "base"))
    return base, mended.adapter(root / "adapter", base)


@pytest.mark.parametrize("what", BREAKS)
def test_a_mended_adapter_computes_what_the_unbroken_one_does(what, whole, tmp_path):
    import torch

    base, adapter = whole
    bad = mended.broken(adapter, tmp_path / "bad", BREAKS[what])
    wanted, _ = mended.outputs(base, adapter)
    lost, missing = mended.outputs(base, bad)
    assert missing
    assert not torch.equal(wanted, lost)
    receipt = mended.mend(bad, base, tmp_path / "good", exact=True)
    found, missing = mended.outputs(base, tmp_path / "good")
    assert missing == []
    assert torch.equal(wanted, found)
    assert {one.what: one.outcome for one in receipt.proof.shown} == dict.fromkeys(
        ("files", "bytes", "delta", "check", "safetensors", "peft"), "proven"
    )


def wrapped(held):
    return {"module." + name: tensor for name, tensor in held.items()}


def as_torch(folder, held, **options):
    """The weights as `adapter_model.bin`."""
    import torch

    (folder / mended.WEIGHTS).unlink()
    torch.save(held, folder / "adapter_model.bin", **options)


def as_shards(folder, held):
    from safetensors.torch import save_file

    (folder / mended.WEIGHTS).unlink()
    names = sorted(held)
    for at in range(2):
        save_file(
            {name: held[name] for name in names[at::2]}, folder / f"adapter_model-{at + 1:05}-of-00002.safetensors"
        )


def as_views(folder, held):
    """Every matrix as a transposed view of another one's memory, as a trainer that saved `weight.T` leaves them."""
    as_torch(folder, {name: tensor.t().contiguous().t() for name, tensor in wrapped(held).items()})


def under_another_name(folder, held):
    (folder / mended.WEIGHTS).rename(folder / "adapter_model (1).safetensors")


def in_parts(folder, name, places):
    """The weights cut into pieces of equal size, as `split` cuts a file."""
    whole = next(folder.glob("adapter_model.*"))
    data = whole.read_bytes()
    whole.unlink()
    size = -(-len(data) // len(places))
    for at, place in enumerate(places):
        (folder / f"{name}.{place}").write_bytes(data[at * size : (at + 1) * size])


def parts_of_a_bin(folder, held):
    as_torch(folder, held)
    in_parts(folder, "adapter_model.bin", [f"{at:03}" for at in range(1, 13)])


CONTAINERS = {
    "parts of split": lambda folder, held: in_parts(folder, mended.WEIGHTS, ["partaa", "partab", "partac"]),
    "parts with numbers of one and two digits": lambda folder, held: in_parts(
        folder, mended.WEIGHTS, [f"part{at}" for at in range(12)]
    ),
    "parts of a .bin": parts_of_a_bin,
    "a .bin": lambda folder, held: as_torch(folder, wrapped(held)),
    "a .bin of old torch": lambda folder, held: as_torch(folder, wrapped(held), _use_new_zipfile_serialization=False),
    "a .bin of views": as_views,
    "two shards": as_shards,
    "a file downloaded twice": under_another_name,
    "safetensors called .bin": lambda folder, held: (folder / mended.WEIGHTS).rename(folder / "adapter_model.bin"),
}


@pytest.mark.parametrize("what", CONTAINERS)
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_weights_in_another_container_are_written_bit_for_bit(what, kind, whole, tmp_path):
    import torch

    base, adapter = whole
    cast = mended.broken(
        adapter, tmp_path / "cast", lambda held: {n: t.to(getattr(torch, kind)) for n, t in held.items()}
    )
    bad = mended.broken(cast, tmp_path / "bad")
    CONTAINERS[what](bad, mended.tensors(cast))
    mended.mend(bad, base, tmp_path / "good")
    wanted, found = mended.tensors(cast), mended.tensors(tmp_path / "good")
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) and wanted[name].dtype == found[name].dtype for name in wanted)
    logits, missing = mended.outputs(base, tmp_path / "good")
    assert missing == []
    assert torch.equal(logits, mended.outputs(base, cast)[0])
    assert {path.name for path in (tmp_path / "good").iterdir() if path.name.startswith("adapter_model")} == {
        mended.WEIGHTS
    }


@pytest.mark.parametrize("how", ["safetensors", "a .bin", "a .bin of old torch", "a .bin of views"])
def test_what_is_left_of_a_file_that_was_cut_off_loads_and_is_whole(how, whole, tmp_path):
    import torch

    base, adapter = whole
    bad = mended.broken(adapter, tmp_path / "bad")
    if how == "a .bin of views":
        held = mended.tensors(adapter)
        as_torch(bad, {name: tensor.t().contiguous().t() for name, tensor in held.items()})
    elif how != "safetensors":
        as_torch(bad, mended.tensors(adapter), _use_new_zipfile_serialization=how == "a .bin")
    weights = next(bad.glob("adapter_model.*"))
    data = weights.read_bytes()
    weights.write_bytes(data[: -len(data) // 3])
    with pytest.raises(
        Exception, match=r"incomplete metadata|central directory|Invalid argument|unexpected|EOF|storage"
    ):
        mended.outputs(base, bad)
    receipt = mended.mend(bad, base, tmp_path / "good", unsafe=True)
    kept, all_of_them = mended.tensors(tmp_path / "good"), mended.tensors(adapter)
    assert receipt.plan.steps[0].safety == "unsafe"
    assert 0 < len(kept) < len(all_of_them)
    assert all(torch.equal(all_of_them[name], tensor) for name, tensor in kept.items())
    _, missing = mended.outputs(base, tmp_path / "good")
    assert missing
    lost = all_of_them.keys() - kept.keys()
    assert all(f'"{name}"' in receipt.plan.steps[0].far for name in lost)


def unfinished(folder):
    """A browser's name for what is still on its way, and two thirds of the file."""
    whole = folder / mended.WEIGHTS
    (folder / f"{mended.WEIGHTS}.part").write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    whole.unlink()


def without_the_last_part(folder):
    in_parts(folder, mended.WEIGHTS, ["partaa", "partab", "partac"])
    (folder / f"{mended.WEIGHTS}.partac").unlink()


@pytest.mark.parametrize("how", [unfinished, without_the_last_part])
def test_of_a_file_that_did_not_come_whole_what_is_there_is_kept_only_where_that_is_asked_for(how, whole, tmp_path):
    import torch

    base, adapter = whole
    bad = mended.broken(adapter, tmp_path / "bad")
    how(bad)
    assert mended.adapterfit.fix(bad, base=str(base), out=tmp_path / "no").out == ""
    receipt = mended.mend(bad, base, tmp_path / "good", unsafe=True)
    kept, all_of_them = mended.tensors(tmp_path / "good"), mended.tensors(adapter)
    assert 0 < len(kept) < len(all_of_them)
    assert all(torch.equal(all_of_them[name], tensor) for name, tensor in kept.items())
    assert all(f'"{name}"' in receipt.plan.steps[0].far for name in all_of_them.keys() - kept.keys())
    assert mended.outputs(base, tmp_path / "good")[1]


@pytest.mark.parametrize("lost", ["partaa", "partab"])
def test_parts_with_a_gap_are_not_joined(lost, whole, tmp_path):
    base, adapter = whole
    bad = mended.broken(adapter, tmp_path / "bad")
    in_parts(bad, mended.WEIGHTS, ["partaa", "partab", "partac"])
    (bad / f"{mended.WEIGHTS}.{lost}").unlink()
    receipt = mended.adapterfit.fix(bad, base=str(base), out=tmp_path / "good", unsafe=True)
    assert (receipt.out, receipt.plan.steps) == ("", ())


def _without_config(folder):
    (folder / mended.CONFIG).unlink()


def _with_another_rank(folder):
    config = json.loads((folder / mended.CONFIG).read_text("utf-8"))
    (folder / mended.CONFIG).write_text(json.dumps({**config, "r": 16, "lora_alpha": 99}), "utf-8")


CONFIGS = {
    "two modules in all layers": {},
    "one module in one layer": {"target_modules": ["q_proj"], "layers_to_transform": [1]},
    "ranks that differ": {"rank_pattern": {"v_proj": 2}},
    "DoRA": {"use_dora": True},
    "lora_bias": {"lora_bias": True},
    "a head beside it": {"modules_to_save": ["lm_head"]},
    "rsLoRA": {"use_rslora": True},
}


@pytest.mark.parametrize("how", [_without_config, _with_another_rank])
@pytest.mark.parametrize("what", CONFIGS)
def test_a_config_that_the_tensors_show_is_written_once_alpha_is_told(what, how, tmp_path):
    import torch

    base = mended.base_folder("llama", str(tmp_path / "base"))
    adapter = mended.adapter(tmp_path / "adapter", base, **{**mended.LORA, **CONFIGS[what]})
    bad = mended.broken(adapter, tmp_path / "bad")
    how(bad)
    assert mended.adapterfit.fix(bad, base=str(base), out=tmp_path / "no").out == ""
    told = {"rslora": True} if what == "rsLoRA" and how is _without_config else {}  # a config that is there says it
    receipt = mended.mend(bad, base, tmp_path / "good", alpha=16, **told)
    assert {step.safety for step in receipt.plan.steps} == {"told"}
    found, missing = mended.outputs(base, tmp_path / "good")
    assert missing == []
    assert torch.equal(found, mended.outputs(base, adapter)[0])


@pytest.mark.parametrize(
    ("stored", "wanted", "safety"),
    [("bfloat16", "F32", "safe"), ("float32", "BF16", "unsafe"), ("float16", "BF16", "unsafe")],
)
def test_numbers_are_stored_as_the_type_that_is_asked_for_as_torch_rounds_them(stored, wanted, safety, whole, tmp_path):
    import torch

    base, adapter = whole
    held = {name: one.to(getattr(torch, stored)) for name, one in mended.tensors(adapter).items()}
    bad = mended.broken(adapter, tmp_path / "bad", lambda _: held)
    plan = mended.adapterfit.fix(bad, base=str(base), dtype=wanted).plan
    assert [step.safety for step in (*plan.steps, *plan.left_out)] == [safety]
    mended.mend(bad, base, tmp_path / "good", dtype=wanted, unsafe=safety == "unsafe")
    kind = {"F32": torch.float32, "BF16": torch.bfloat16}[wanted]
    found = mended.tensors(tmp_path / "good")
    assert all(torch.equal(found[name], one.to(kind)) and found[name].dtype == kind for name, one in held.items())
    if safety == "unsafe":
        off = max(
            float((one.double() - found[name].double()).abs().max() / one.double().abs().max())
            for name, one in held.items()
        )
        assert f"by up to {off:.1e} of the largest" in plan.left_out[0].far


def test_numbers_that_a_smaller_type_holds_are_stored_in_it_safely(whole, tmp_path):
    import torch

    base, adapter = whole
    bad = mended.broken(adapter, tmp_path / "bad", lambda held: {n: t.bfloat16().float() for n, t in held.items()})
    receipt = mended.mend(bad, base, tmp_path / "good", dtype="BF16")
    assert [step.safety for step in receipt.plan.steps] == ["safe"]
    before, after = mended.tensors(bad), mended.tensors(tmp_path / "good")
    assert all(torch.equal(before[name], one.float()) for name, one in after.items())
    assert mended.adapterfit.fix(tmp_path / "good", base=str(base), dtype="BF16").plan.steps == ()


EMBEDDING = "base_model.model.model.embed_tokens.weight"
COPIES = {
    "all rows, and asked for": (lambda rows: rows, {"drop_copies": True}),
    "fewer rows": (lambda rows: rows[:-6], {}),
    "rows of added tokens, given up": (lambda rows: rows.repeat(2, 1)[: len(rows) + 2], {"unsafe": True}),
}


@pytest.mark.parametrize("what", COPIES)
@pytest.mark.parametrize("family", ["llama", "llama-tied"])
def test_without_its_copy_of_the_bases_embedding_it_computes_the_same(what, family, tmp_path):
    import torch

    base = mended.base_folder(family, str(tmp_path / "base"))
    adapter = mended.adapter(tmp_path / "adapter", base)
    cut, options = COPIES[what]
    rows = mended.model(base).get_input_embeddings().weight.detach()
    bad = mended.broken(adapter, tmp_path / "bad", lambda held: {**held, EMBEDDING: cut(rows)})
    mended.mend(bad, base, tmp_path / "good", **options)
    assert EMBEDDING not in mended.tensors(tmp_path / "good")
    wanted, _ = mended.outputs(base, adapter)
    found, missing = mended.outputs(base, tmp_path / "good")
    assert missing == []
    assert torch.equal(wanted, found)


SHRUNK = {
    "an embedding that was trained, on its own": ({"modules_to_save": ["embed_tokens"]}, True),
    "a head that was trained": ({"modules_to_save": ["lm_head"]}, False),
    "both": ({"modules_to_save": ["embed_tokens", "lm_head"]}, False),
    "a LoRA on the embedding, with the base's own weight beside it": (
        {"target_modules": ["q_proj", "embed_tokens"]},
        True,
    ),
    "a LoRA on the head": ({"target_modules": ["q_proj", "lm_head"]}, False),
}


@pytest.mark.parametrize("what", SHRUNK)
def test_trained_on_fewer_rows_it_computes_the_same_for_all_tokens_that_it_knows(what, tmp_path):
    import torch

    config, safe = SHRUNK[what]
    base = mended.base_folder("llama", str(tmp_path / "base"))
    rows = mended.model(base).get_input_embeddings().num_embeddings

    wanted = mended.trained_on_fewer_rows(base, tmp_path / "bad", 6, **config)
    with pytest.raises(RuntimeError, match="size mismatch"):
        mended.outputs(base, tmp_path / "bad")
    if not safe:
        refused = mended.adapterfit.fix(tmp_path / "bad", base=str(base), out=tmp_path / "good")
        assert refused.out == ""
        assert "6 logits more than in training" in [step.far for step in refused.plan.left_out][-1]
    receipt = mended.mend(tmp_path / "bad", base, tmp_path / "good", unsafe=not safe)
    assert {step.safety for step in receipt.plan.steps} == ({"safe"} if safe else {"unsafe", *_safe_copies(receipt)})
    found, missing = mended.outputs(base, tmp_path / "good")
    assert missing == []
    assert torch.allclose(found[..., : rows - 6], wanted, atol=1e-6)
    again = mended.adapterfit.fix(tmp_path / "good", base=str(base), out=tmp_path / "again", unsafe=True)
    assert again.plan.steps == ()


def _safe_copies(receipt):
    return {step.safety for step in receipt.plan.steps if step.cause == "embeddings-saved-needlessly"}


def test_rows_that_were_trained_are_never_called_copies(tmp_path):
    base = mended.base_folder("llama", str(tmp_path / "base"))
    adapter = mended.adapter(tmp_path / "adapter", base)
    rows = mended.model(base).get_input_embeddings().weight.detach().clone()
    rows[3, 5] += 1e-3
    for at, cut in enumerate((rows, rows[:-6])):
        bad = mended.broken(adapter, tmp_path / f"bad{at}", lambda held, cut=cut: {**held, EMBEDDING: cut})
        options = {"base": str(base), "out": tmp_path / "good", "unsafe": True, "drop_copies": True}
        assert mended.adapterfit.fix(bad, **options).out == ""
