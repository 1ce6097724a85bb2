"""`peft==VERSION`: the config that release knows, its layout, and refusals by name for what it cannot load the same."""

import hashlib
import json

import pytest

import adapterfit
from adapterfit.errors import CannotConvert
from adapterfit.read import peft_facts
from adapterfit.testing.bases import CONFIGS
from adapterfit.testing.disk import lay
from convert_samples import LLAMA, config, numbers, peft_config, peft_folder, read, weights_bytes

Q = "model.layers.0.self_attn.q_proj"
#: What PEFT 0.21.2 writes for a plain LoRA: every field, most at their defaults.
DEFAULTS = {name: field.default for name, field in peft_facts.method("LORA").fields.items() if not field.last}


def full(tmp_path, name="a", modules=LLAMA, **fields):
    plain = {**DEFAULTS, "init_lora_weights": True, "peft_version": "0.21.2", "base_model_name_or_path": "example/tiny"}
    return peft_folder(
        tmp_path / name, modules, **{**plain, "r": 4, "lora_alpha": 8, "target_modules": sorted(modules), **fields}
    )


@pytest.mark.parametrize("version", [each for each in peft_facts.versions() if each not in ("0.2.0", "0.3.0")])
def test_a_plain_adapter_gets_exactly_the_fields_of_the_release(version, tmp_path):
    adapterfit.convert(full(tmp_path), f"peft=={version}", tmp_path / "b")
    written = config(tmp_path / "b")
    assert set(written) <= peft_facts.method("LORA").fields_of(version)
    assert (written["r"], written["lora_alpha"], written["target_modules"]) == (4, 8, sorted(LLAMA))
    assert written.get("peft_version") == (
        version if "peft_version" in peft_facts.method("LORA").fields_of(version) else None
    )
    assert read(tmp_path / "b/adapter_model.safetensors") == read(tmp_path / "a/adapter_model.safetensors")


NEEDS = {
    "use_dora": (True, "0.8.2"),
    "rank_pattern": ({"q_proj": 4}, "0.5.0"),
    "layer_replication": ([[0, 2], [1, 2]], "0.9.0"),
    "alora_invocation_tokens": ([1, 2], "0.17.1"),
}


@pytest.mark.parametrize("field", NEEDS)
def test_a_field_that_the_release_does_not_know_is_refused_by_name(field, tmp_path):
    value, version = NEEDS[field]
    with pytest.raises(CannotConvert, match=field):
        adapterfit.convert(full(tmp_path, **{field: value}), f"peft=={version}", tmp_path / "b")


NOTHING = {
    "an empty list": {"target_parameters": []},
    "an empty table": {"trainable_token_indices": {}},
    "QALoRA's size without QALoRA": {"qalora_group_size": 8},
    "VeLoRA": {"velora_config": {"num_groups": 8}},
    "MonteCLoRA": {"monteclora_config": {"num_samples": 8}},
}


@pytest.mark.parametrize("fields", NOTHING.values(), ids=NOTHING)
def test_fields_that_change_nothing_are_left_out_where_they_are_not_known(fields, tmp_path):
    adapterfit.convert(full(tmp_path, **fields), "peft==0.13.2", tmp_path / "b")
    assert fields.keys().isdisjoint(config(tmp_path / "b"))


def test_tensors_of_a_training_go_with_their_field(tmp_path):
    more = {f"base_model.model.{Q}.lora_velora_embed": numbers((8,))}
    source = full(tmp_path, velora_config={"num_groups": 8}, more=more)
    done = adapterfit.convert(source, "peft==0.13.2", tmp_path / "b")
    adapterfit.convert(source, "peft==0.21.2", tmp_path / "c")
    before, old, new = (read(tmp_path / each / "adapter_model.safetensors") for each in "abc")
    assert (set(before) - set(old), new) == (set(more), before)
    assert "velora_config" in done.notes[0]


def test_exclusions_become_targets_named_one_by_one(tmp_path):
    source = full(tmp_path, target_modules=["q_proj", "v_proj", "down_proj", "up_proj"], exclude_modules=["up_proj"])
    adapterfit.convert(source, "peft==0.13.2", tmp_path / "b")
    assert config(tmp_path / "b")["target_modules"] == sorted(LLAMA)
    adapterfit.convert(source, "peft==0.14.0", tmp_path / "c")
    assert config(tmp_path / "c")["exclude_modules"] == ["up_proj"]


RSLORA = {
    "one rank": ({}, {}, "0.5.0"),
    "ranks": ({"rank_pattern": {"q_proj": 4, "v_proj": 2}}, {m: 2 for m in LLAMA if "v_proj" in m}, "0.7.1"),
    "alphas": ({"alpha_pattern": {"v_proj": 3}}, {}, "0.6.2"),
}


@pytest.mark.parametrize(("fields", "ranks", "version"), RSLORA.values(), ids=RSLORA)
def test_rslora_becomes_the_alpha_that_gives_its_scale(fields, ranks, version, tmp_path):
    source = full(tmp_path, use_rslora=True, ranks=ranks, **fields)
    adapterfit.convert(source, f"peft=={version}", tmp_path / "b")
    written = config(tmp_path / "b")
    assert "use_rslora" not in written
    rank_of = {module: written.get("rank_pattern", {}).get(module, 4) for module in LLAMA}
    alpha_of = {module: written.get("alpha_pattern", {}).get(module, written["lora_alpha"]) for module in LLAMA}
    for module in LLAMA:
        rank, alpha = ranks.get(module, 4), 3 if fields.get("alpha_pattern") and "v_proj" in module else 8
        assert rank_of[module] == rank
        assert alpha_of[module] / rank == pytest.approx(alpha / rank**0.5, rel=1e-15)


def test_rslora_of_several_scales_is_refused_where_no_table_is_known(tmp_path):
    with pytest.raises(CannotConvert, match="use_rslora"):
        adapterfit.convert(
            full(tmp_path, use_rslora=True, layers_to_transform=None, alpha_pattern={"v_proj": 3}),
            "peft==0.5.0",
            tmp_path / "b",
        )


def test_starting_values_that_leave_the_base_alone_become_true_where_they_are_not_known(tmp_path):
    source = full(tmp_path, init_lora_weights="orthogonal")
    adapterfit.convert(source, "peft==0.15.2", tmp_path / "b")
    adapterfit.convert(source, "peft==0.16.0", tmp_path / "c")
    assert config(tmp_path / "b")["init_lora_weights"] is True
    assert config(tmp_path / "c")["init_lora_weights"] == "orthogonal"
    with pytest.raises(CannotConvert, match="take its start off the base"):
        adapterfit.convert(full(tmp_path, "p", init_lora_weights="pissa"), "peft==0.10.0", tmp_path / "d")


def test_biases_move_where_the_release_looks_for_them_and_back(tmp_path):
    bias = {f"base_model.model.{Q}.base_layer.bias": numbers((64,)), "base_model.model.model.norm.bias": numbers((64,))}
    source = full(tmp_path, bias="all", more=bias)
    adapterfit.convert(source, "peft==0.6.2", tmp_path / "old")
    names = set(read(tmp_path / "old/adapter_model.safetensors"))
    assert {f"base_model.model.{Q}.bias", "base_model.model.model.norm.bias"} <= names
    adapterfit.convert(tmp_path / "old", "peft==0.21.2", tmp_path / "new")
    assert read(tmp_path / "new/adapter_model.safetensors") == read(source / "adapter_model.safetensors")


def other(path, kind, tensors, **fields):
    known = {name: field.default for name, field in peft_facts.method(kind).fields.items() if not field.last}
    raw = {**known, "peft_type": kind, "target_modules": ["q_proj"], **fields}
    return lay(
        path,
        {"adapter_config.json": json.dumps(raw).encode(), "adapter_model.safetensors": weights_bytes(tensors)},
    )


def test_miss_is_called_bone_before_0_17(tmp_path):
    source = other(tmp_path / "a", "MISS", {f"base_model.model.{Q}.miss_block": numbers((4, 64))}, r=4)
    adapterfit.convert(source, "peft==0.18.0", tmp_path / "same")
    assert config(tmp_path / "same")["peft_type"] == "MISS"
    fields = peft_facts.method("BONE").fields_of("0.16.0")
    raw = {key: value for key, value in config(source).items() if key in fields}
    shorter = other(tmp_path / "s", "MISS", {f"base_model.model.{Q}.miss_block": numbers((4, 64))})
    (shorter / "adapter_config.json").write_text(json.dumps({**raw, "peft_type": "MISS"}))
    adapterfit.convert(shorter, "peft==0.16.0", tmp_path / "old")
    assert config(tmp_path / "old")["peft_type"] == "BONE"
    assert list(read(tmp_path / "old/adapter_model.safetensors")) == [f"base_model.model.{Q}.bone_block"]
    adapterfit.convert(tmp_path / "old", "peft==0.21.2", tmp_path / "new")
    assert config(tmp_path / "new")["peft_type"] == "MISS"


def test_a_miss_of_the_mini_form_is_no_bone(tmp_path):
    tensors = {f"base_model.model.{Q}.miss_block": numbers((8, 8))}
    source = other(tmp_path / "a", "MISS", tensors, r=8, init_weights="mini", mini_r=8)
    with pytest.raises(CannotConvert, match="no mini form"):
        adapterfit.convert(source, "peft==0.15.2", tmp_path / "b")


def test_an_adalora_without_dropout_is_refused_where_it_is_never_loaded(tmp_path):
    tensors = {f"base_model.model.{Q}.lora_A": numbers((4, 64))}
    with pytest.raises(CannotConvert, match="without dropout"):
        adapterfit.convert(other(tmp_path / "a", "ADALORA", tensors, total_step=10), "peft==0.4.0", tmp_path / "b")
    dropping = other(tmp_path / "c", "ADALORA", tensors, total_step=10, lora_dropout=0.1)
    adapterfit.convert(dropping, "peft==0.4.0", tmp_path / "d")


def test_adamss_of_0_19_is_refused_in_both_directions(tmp_path):
    tensors = {f"base_model.model.{Q}.adamss_newB": numbers((4, 64))}
    source = other(tmp_path / "a", "ADAMSS", tensors)
    with pytest.raises(CannotConvert, match="without a seed"):
        adapterfit.convert(source, "peft==0.19.1", tmp_path / "b")
    raw = {
        key: value for key, value in config(source).items() if key in peft_facts.method("ADAMSS").fields_of("0.19.1")
    }
    (source / "adapter_config.json").write_text(json.dumps({**raw, "peft_version": "0.19.1"}))
    with pytest.raises(CannotConvert, match="without a seed"):
        adapterfit.convert(source, "peft==0.21.2", tmp_path / "c")


PROMPT = {
    "task_type": "SEQ_CLS",
    "target_modules": None,
    "num_virtual_tokens": 4,
    "modules_to_save": ["classifier", "score"],
}


def test_a_classifiers_prompt_goes_over_with_its_head_only(tmp_path):
    head = {"base_model.classifier.weight": numbers((3, 64)), "base_model.classifier.bias": numbers((3,))}
    prompt = {"prompt_embeddings": numbers((4, 64))}
    adapterfit.convert(
        other(tmp_path / "a", "PROMPT_TUNING", {**prompt, **head}, **PROMPT), "peft==0.10.0", tmp_path / "b"
    )
    assert "modules_to_save" not in config(tmp_path / "b")
    with pytest.raises(CannotConvert, match="every prompt of a classifier"):
        adapterfit.convert(tmp_path / "a", "peft==0.13.2", tmp_path / "e")
    with pytest.raises(CannotConvert, match="classifier's head"):
        adapterfit.convert(other(tmp_path / "c", "PROMPT_TUNING", prompt, **PROMPT), "peft==0.21.2", tmp_path / "d")


LOKR = {f"base_model.model.{Q}.lokr_w1": numbers((8, 8)), f"base_model.model.{Q}.lokr_w2": numbers((8, 8))}
IA3 = {f"base_model.model.{Q}.ia3_l": numbers((64, 1))}


def test_lokrs_alpha_goes_over_only_where_it_makes_no_difference(tmp_path):
    adapterfit.convert(other(tmp_path / "a", "LOKR", LOKR, r=8, alpha=8), "peft==0.13.2", tmp_path / "b")
    with pytest.raises(CannotConvert, match="alpha"):
        adapterfit.convert(other(tmp_path / "c", "LOKR", LOKR, r=8, alpha=4), "peft==0.13.2", tmp_path / "d")


def old_lokr(path, tmp_path, **fields):
    """As PEFT 0.13.2 wrote it: without the fields that came with 0.14."""
    adapterfit.convert(other(tmp_path / "now", "LOKR", LOKR, r=8, alpha=8), "peft==0.13.2", path)
    (path / "adapter_config.json").write_text(json.dumps({**config(path), **fields}))
    return path


def test_an_old_lokr_has_the_scale_1_of_its_training(tmp_path):
    """PEFT before 0.14 took no notice of alpha (peft 0.13.2, tuners/lokr/layer.py)."""
    source = old_lokr(tmp_path / "a", tmp_path, alpha=32, alpha_pattern={"q_proj": 5})
    done = adapterfit.convert(source, "peft==0.21.2", tmp_path / "b")
    written = config(tmp_path / "b")
    assert (written["alpha"], written["r"], written["alpha_pattern"]) == (8, 8, {})
    assert "scale 1" in " ".join(done.notes)
    adapterfit.convert(source, "peft==0.12.0", tmp_path / "c")
    assert config(tmp_path / "c")["alpha"] == 32


def test_a_lokr_whose_writer_is_not_known_is_refused_with_both_readings(tmp_path):
    raw = {"peft_type": "LOKR", "r": 8, "alpha": 32, "target_modules": ["q_proj"]}
    files = {"adapter_config.json": json.dumps(raw).encode(), "adapter_model.safetensors": weights_bytes(LOKR)}
    with pytest.raises(CannotConvert, match="before it the scale was 1"):
        adapterfit.convert(lay(tmp_path / "a", files), "peft==0.21.2", tmp_path / "b")


@pytest.mark.parametrize(
    ("kind", "version", "said"),
    [("IA3", "0.3.0", "no pickles"), ("LOHA", "0.5.0", "came with 0.6.0"), ("SHIRA", "0.16.0", "came with 0.17.0")],
)
def test_a_method_that_the_release_does_not_have_is_refused(kind, version, said, tmp_path):
    with pytest.raises(CannotConvert, match=said):
        adapterfit.convert(other(tmp_path / "a", kind, IA3), f"peft=={version}", tmp_path / "b")


REREAD = {
    "one key for both tables": ({"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"self_attn.q_proj": 3}}, "0.13.2"),
    "an anchored key": ({"alpha_pattern": {f"^{Q}": 3}}, "0.14.0"),
}


@pytest.mark.parametrize(("fields", "version"), REREAD.values(), ids=REREAD)
def test_tables_that_an_older_release_reads_otherwise_name_every_module(fields, version, tmp_path):
    adapterfit.convert(full(tmp_path, **fields), f"peft=={version}", tmp_path / "b")
    both = {module: 3 for module in LLAMA if module.endswith("q_proj")}
    assert config(tmp_path / "b")["alpha_pattern"] == ({Q: 3} if "^" in str(fields) else both)


def test_an_old_adapters_tables_mean_what_its_release_read(tmp_path):
    fields = {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"self_attn.q_proj": 3}}
    adapterfit.convert(full(tmp_path, peft_version=None), "peft==0.13.2", tmp_path / "old")
    raw = {**config(tmp_path / "old"), **fields}
    (tmp_path / "old/adapter_config.json").write_text(json.dumps(raw))
    adapterfit.convert(tmp_path / "old", "peft==0.21.2", tmp_path / "new")
    assert config(tmp_path / "new")["alpha_pattern"] == {}
    with pytest.raises(CannotConvert, match="--to peft first"):
        adapterfit.convert(tmp_path / "old", "mlx", tmp_path / "m")
    adapterfit.convert(tmp_path / "new", "mlx", tmp_path / "m")


def test_tables_of_an_unknown_release_that_can_mean_two_things_are_refused(tmp_path):
    source = peft_folder(tmp_path / "a", LLAMA, rank_pattern={"q_proj": 4}, alpha_pattern={"self_attn.q_proj": 3})
    with pytest.raises(CannotConvert, match="mean two things"):
        adapterfit.convert(source, "peft==0.21.2", tmp_path / "b")


def test_tables_that_mean_the_same_go_over(tmp_path):
    adapterfit.convert(full(tmp_path, alpha_pattern={"q_proj": 3, Q: 5}), "peft==0.11.0", tmp_path / "b")
    assert config(tmp_path / "b")["alpha_pattern"] == {"q_proj": 3, Q: 5}


@pytest.mark.parametrize(("version", "fine"), [("0.15.2", False), ("0.16.0", True)])
def test_grouped_convolutions_stay_on_their_side_of_0_16(version, fine, tmp_path):
    tensors = {
        "base_model.model.conv.lora_A.weight": numbers((4, 2, 3, 3)),
        "base_model.model.conv.lora_B.weight": numbers((8, 2, 1, 1)),
    }
    raw = {**DEFAULTS, **peft_config({"conv": ()}), "peft_version": "0.21.2"}
    files = {"adapter_config.json": json.dumps(raw).encode(), "adapter_model.safetensors": weights_bytes(tensors)}
    source = lay(tmp_path / "a", files)
    if fine:
        adapterfit.convert(source, f"peft=={version}", tmp_path / "b")
    else:
        with pytest.raises(CannotConvert, match="grouped"):
            adapterfit.convert(source, f"peft=={version}", tmp_path / "b")


def test_a_foreign_adapter_becomes_an_old_releases(tmp_path):
    adapterfit.convert(full(tmp_path), "mlx", tmp_path / "m")
    adapterfit.convert(tmp_path / "m", "peft==0.5.0", tmp_path / "b")
    assert set(config(tmp_path / "b")) <= peft_facts.method("LORA").fields_of("0.5.0")
    adapterfit.convert(full(tmp_path, "r", use_rslora=True), "mlx", tmp_path / "n")
    with pytest.raises(CannotConvert, match="use_rslora"):
        adapterfit.convert(tmp_path / "n", "peft==0.5.0", tmp_path / "c")


def test_tokenizer_and_card_go_along(tmp_path):
    source = full(tmp_path)
    (source / "tokenizer.json").write_text("{}")
    (source / "README.md").write_text("A card.")
    adapterfit.convert(source, "peft==0.12.0", tmp_path / "b")
    there = {path.name for path in (tmp_path / "b").iterdir()}
    assert there == {"receipt.json", *(path.name for path in source.iterdir())}


def test_a_release_that_never_was_is_refused(tmp_path):
    with pytest.raises(CannotConvert, match="not known"):
        adapterfit.convert(full(tmp_path), "peft==0.99.0", tmp_path / "b")


def test_a_start_that_its_release_did_not_know_was_the_usual_one(tmp_path):
    adapterfit.convert(full(tmp_path), "peft==0.6.2", tmp_path / "old")
    raw = {**config(tmp_path / "old"), "init_lora_weights": "pissa"}
    (tmp_path / "old/adapter_config.json").write_text(json.dumps(raw))
    adapterfit.convert(tmp_path / "old", "peft==0.21.2", tmp_path / "new")
    assert config(tmp_path / "new")["init_lora_weights"] is True


def test_biases_that_were_never_saved_are_said_to_be_lost(tmp_path):
    adapterfit.convert(full(tmp_path), "peft==0.18.0", tmp_path / "old")
    raw = {**config(tmp_path / "old"), "bias": "lora_only"}
    (tmp_path / "old/adapter_config.json").write_text(json.dumps(raw))
    done = adapterfit.convert(tmp_path / "old", "peft==0.21.2", tmp_path / "b")
    assert "They are lost" in " ".join(done.notes)


@pytest.mark.parametrize(
    "fields", [{"modules_to_save": ["classifier"]}, {"task_type": "SEQ_CLS"}], ids=["named", "of the task"]
)
def test_biases_of_a_saved_head_do_not_hide_the_lost_ones(fields, tmp_path):
    head = {"base_model.model.classifier.weight": numbers((3, 64)), "base_model.model.classifier.bias": numbers((3,))}
    adapterfit.convert(full(tmp_path, "new", more=head, **fields), "peft==0.18.0", tmp_path / "a")
    raw = {**config(tmp_path / "a"), "bias": "lora_only"}
    source = tmp_path / "a"
    (source / "adapter_config.json").write_text(json.dumps(raw))
    assert any("lost" in note for note in adapterfit.convert(source, "peft==0.21.2", tmp_path / "b").notes)


def test_names_that_another_transformers_has_are_said(tmp_path):
    """Of a Mixtral's router, which transformers 4 called otherwise; not of its attention."""
    base = lay(tmp_path / "base", {"config.json": json.dumps(CONFIGS["mixtral"]).encode()})
    for name, module, said in (("r", "model.layers.0.mlp.gate", True), ("q", Q, False)):
        source = full(tmp_path, name, {module: (4, 64)})
        done = adapterfit.convert(source, "peft==0.18.1", tmp_path / f"{name}-old", base=base)
        assert any("names of modules" in note for note in done.notes) == said


def test_the_receipt_has_the_hashes_of_both_folders_and_no_time(tmp_path):
    source, seen = full(tmp_path), []
    done = adapterfit.convert(source, "peft==0.12.0", tmp_path / "b", progress=lambda *both: seen.append(both))
    text = (tmp_path / "b" / "receipt.json").read_text()
    found = json.loads(text)
    assert (found["schema"], found["from"], found["to"]) == ("adapterfit/conversion/v1", "peft", "peft==0.12.0")
    for folder, hashes in ((source, found["before"]), (tmp_path / "b", found["after"])):
        digests = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.iterdir()
            if path.name != "receipt.json"
        }
        assert {name: one["sha256"] for name, one in hashes.items()} == digests
    assert "receipt.json" in done.files
    assert seen[-1][0] <= seen[-1][1]
    adapterfit.convert(source, "peft==0.12.0", tmp_path / "c")
    assert (tmp_path / "c" / "receipt.json").read_text() == text
