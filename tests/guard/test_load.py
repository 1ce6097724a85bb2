"""`adapterfit.load` beside plain PEFT: the same model where all is well, and no trust in PEFT's own word."""

from __future__ import annotations

import shutil

import pytest
import real

import adapterfit

pytestmark = pytest.mark.exact

ADAPTERS = {
    "LoRA": ("llama", "LoraConfig", real.LORA),
    "DoRA": ("llama", "LoraConfig", {**real.LORA, "use_dora": True}),
    "LoRA and a saved head": ("llama", "LoraConfig", {**real.LORA, "modules_to_save": ["lm_head"]}),
    "LoRA and token rows": ("llama", "LoraConfig", {**real.LORA, "trainable_token_indices": [3, 5]}),
    "LoRA on the embedding": ("llama", "LoraConfig", {**real.LORA, "target_modules": ["q_proj", "embed_tokens"]}),
    "LoRA on tied embeddings": (
        "llama-tied",
        "LoraConfig",
        {**real.LORA, "target_modules": ["q_proj", "embed_tokens"]},
    ),
    "LoRA on experts": (
        "mixtral",
        "LoraConfig",
        {"r": 4, "target_parameters": ["experts.gate_up_proj", "experts.down_proj"], "target_modules": ["q_proj"]},
    ),
    "LoRA and every bias": (
        "gpt2",
        "LoraConfig",
        {"r": 4, "target_modules": ["c_attn"], "bias": "all", "fan_in_fan_out": True},
    ),
    "a classifier": ("bert", "LoraConfig", {"r": 4, "target_modules": ["query"], "task_type": "SEQ_CLS"}),
    "AdaLoRA": ("llama", "AdaLoraConfig", {"total_step": 10, "target_modules": ["q_proj"]}),
    "IA3": ("llama", "IA3Config", {"task_type": "CAUSAL_LM"}),
    "LoKr": ("llama", "LoKrConfig", {"target_modules": ["q_proj"]}),
    "a prefix": ("llama", "PrefixTuningConfig", {"num_virtual_tokens": 3, "task_type": "CAUSAL_LM"}),
    "a prompt": ("llama", "PromptTuningConfig", {"num_virtual_tokens": 3, "task_type": "CAUSAL_LM"}),
    "VB-LoRA": ("llama", "VBLoRAConfig", {"vector_length": 16, "num_vectors": 32, "target_modules": ["q_proj"]}),
    "TinyLoRA": ("llama", "TinyLoraConfig", {"r": 2, "target_modules": ["q_proj"]}),
    "OFT": ("llama", "OFTConfig", {"oft_block_size": 16, "target_modules": ["q_proj"]}),
}


@pytest.fixture
def adapter(tmp_path):
    return real.saved(tmp_path / "adapter")


def guarded(model, folder, **arguments):
    with real.quiet():
        return adapterfit.load(model, folder, **arguments)


def same_state(one, other):
    import torch

    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("what", ADAPTERS)
def test_a_right_adapter_loads_exactly_as_with_plain_peft(what, tmp_path):
    family, kind, config = ADAPTERS[what]
    folder = real.saved(tmp_path / "adapter", real.base(family), kind, **config)
    assert same_state(guarded(real.base(family), folder), real.plain_load(real.base(family), folder))


@pytest.mark.parametrize(
    "arguments",
    [
        {"adapter_name": "second"},
        {"adapter_name": "lora"},
        {"is_trainable": True},
        {"low_cpu_mem_usage": True},
        {"autocast_adapter_dtype": False},
        {"torch_device": "cpu"},
    ],
    ids=str,
)
def test_arguments_go_to_peft_as_they_are(arguments, adapter):
    assert same_state(guarded(real.base(), adapter, **arguments), real.plain_load(real.base(), adapter, **arguments))


@pytest.mark.parametrize("stored", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("model", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("autocast", [True, False])
def test_casts_are_accounted_for(stored, model, autocast, adapter):
    import torch

    real.rewrite(adapter, lambda held: {name: tensor.to(getattr(torch, stored)) for name, tensor in held.items()})
    base = real.base().to(getattr(torch, model))
    assert guarded(base, adapter, autocast_adapter_dtype=autocast)


def test_a_bin_is_proven_too(tmp_path):
    with real.quiet():
        real.trained(real.base(), **real.LORA).save_pretrained(tmp_path, safe_serialization=False)
    assert guarded(real.base(), tmp_path)


def test_a_subfolder_is_checked_as_it_is_loaded(adapter, tmp_path):
    shutil.copytree(adapter, tmp_path / "all" / "best")
    assert guarded(real.base(), tmp_path / "all", subfolder="best")
    real.rewrite(tmp_path / "all" / "best", lambda held: dict(list(held.items())[1:]))
    with pytest.raises(adapterfit.AdapterMisfit):
        guarded(real.base(), tmp_path / "all", subfolder="best")


def test_a_refused_base_is_untouched(adapter):
    model = real.base()
    names = [name for name, _ in model.named_modules()]
    real.rename(adapter, lambda name: "module." + name)
    with pytest.raises(adapterfit.AdapterMisfit):
        guarded(model, adapter)
    assert [name for name, _ in model.named_modules()] == names
    assert not hasattr(model, "peft_config")


def test_the_refusal_names_the_cause_and_carries_the_report(adapter):
    real.rename(adapter, lambda name: "module." + name)
    with pytest.raises(adapterfit.AdapterMisfit, match="wrapper-prefix") as refused:
        guarded(real.base(), adapter)
    assert refused.value.report.predicted == "loads-without-effect"
    assert refused.value.names


def test_what_is_allowed_goes_through(adapter):
    real.reconfigure(adapter, target_modules=["q_proj", "k_proj", "v_proj"])
    with pytest.raises(adapterfit.AdapterMisfit):
        guarded(real.base(), adapter)
    assert guarded(real.base(), adapter, allow=("loads-partly",))


def test_a_finding_is_allowed_by_its_id(adapter):
    real.rewrite(adapter, lambda held: {n: t * 0 if "lora_B" in n else t for n, t in held.items()})
    with pytest.raises(adapterfit.AdapterMisfit, match="never-trained"):
        guarded(real.base(), adapter)
    assert guarded(real.base(), adapter, allow=("never-trained",))


def test_allow_is_a_collection(adapter):
    with pytest.raises(TypeError):
        guarded(real.base(), adapter, allow="loads-partly")


@pytest.mark.parametrize("wrong", ["nowhere/at/all", "no such id!"])
def test_a_path_that_is_not_there_is_no_misfit(wrong):
    with pytest.raises(adapterfit.CannotCheck):
        guarded(real.base(), wrong)


def test_a_base_that_is_a_name_is_no_model(adapter):
    with pytest.raises(adapterfit.CannotCheck, match="live model"):
        guarded("meta-llama/Llama-3-8B", adapter)


def test_a_hub_id_is_loaded_from_the_cache_and_what_is_checked_is_what_is_loaded(adapter, tmp_path):
    repo = tmp_path / "hub" / "models--someone--adapter"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40, "utf-8")
    (repo / "snapshots").mkdir()
    shutil.copytree(adapter, repo / "snapshots" / ("0" * 40))
    assert guarded(real.base(), "someone/adapter", cache_dir=str(tmp_path / "hub"))
    real.reconfigure(repo / "snapshots" / ("0" * 40), target_modules=["q_proj"])
    with pytest.raises(adapterfit.AdapterMisfit):
        guarded(real.base(), "someone/adapter", cache_dir=str(tmp_path / "hub"))


def test_a_hub_id_that_is_nowhere_is_a_one_line_error(tmp_path):
    with pytest.raises(adapterfit.CannotCheck, match="cannot be downloaded"):
        guarded(real.base(), "someone/nothing", cache_dir=str(tmp_path / "hub"), local_files_only=True)


def test_a_file_that_is_exchanged_between_check_and_load_is_found_out(adapter, monkeypatch):
    import peft.peft_model

    honest = peft.peft_model.load_peft_weights

    def exchanging(*args, **kwargs):
        real.rewrite(adapter, lambda held: {name: tensor + 1 for name, tensor in held.items()})
        return honest(*args, **kwargs)

    monkeypatch.setattr(peft.peft_model, "load_peft_weights", exchanging)
    with pytest.raises((adapterfit.AdapterMisfit, adapterfit.CannotCheck), match=r"hold other numbers|changed"):
        guarded(real.base(), adapter)


def test_a_key_mapping_is_applied_before_the_check(adapter):
    real.rename(adapter, lambda name: name.replace("model.layers", "old.layers"))
    with pytest.raises(adapterfit.AdapterMisfit):
        guarded(real.base(), adapter)
    assert guarded(real.base(), adapter, key_mapping={r"^old\.": "model."})


def test_a_resized_embedding_may_bring_its_own_new_rows(tmp_path):
    trained = real.base()
    trained.resize_token_embeddings(260, mean_resizing=False)
    wrapped = real.trained(trained, **real.LORA)
    with real.quiet():
        wrapped.save_pretrained(tmp_path, save_embedding_layers=True)
    model = real.base()
    model.resize_token_embeddings(260, mean_resizing=False)
    assert guarded(model, tmp_path)


# ------------------------------------------------------------------------------------------------ the proof


def garbled(weights):
    name = next(iter(weights))
    changed = weights[name].clone()
    changed.view(-1)[0] += 1e-6
    return {**weights, name: changed}


SABOTAGE = {
    "one number is changed in its last bits": (garbled, "hold other numbers"),
    "one tensor is dropped on the way": (lambda weights: dict(list(weights.items())[1:]), "hold other numbers"),
    "two tensors are exchanged": (
        lambda weights: dict(zip(weights, [*list(weights.values())[2:], *list(weights.values())[:2]])),
        "hold other numbers",
    ),
}


@pytest.mark.parametrize("what", SABOTAGE)
def test_a_loader_that_does_something_else_is_found_out(what, tmp_path, monkeypatch):
    import peft.peft_model

    folder = real.saved(tmp_path / "adapter", **{**real.LORA, "target_modules": ["q_proj", "o_proj"]})
    change, words = SABOTAGE[what]
    honest = peft.peft_model.load_peft_weights
    monkeypatch.setattr(peft.peft_model, "load_peft_weights", lambda *a, **k: change(honest(*a, **k)))
    with pytest.raises(adapterfit.AdapterMisfit, match=words):
        guarded(real.base(), folder)


def test_a_loader_that_makes_more_slots_than_it_fills_is_found_out(adapter, monkeypatch):
    import peft

    honest = peft.PeftModel.load_adapter

    def greedy(self, *args, **kwargs):
        result = honest(self, *args, **kwargs)
        self.add_adapter("default2", peft.LoraConfig(**real.LORA))
        layer = self.base_model.model.model.layers[0].self_attn.q_proj
        layer.lora_A["default"].register_parameter("more", layer.lora_B["default2"].weight)
        return result

    monkeypatch.setattr(peft.PeftModel, "load_adapter", greedy)
    with pytest.raises(adapterfit.AdapterMisfit, match="kept their start value"):
        guarded(real.base(), adapter)
