"""`adapterfit.save` writes what PEFT writes, and refuses what could not be loaded again; a refusal leaves nothing behind."""

from __future__ import annotations

import pytest
import real

import adapterfit
from adapterfit.read.stamp import parse_stamp

pytestmark = pytest.mark.exact

METHODS = {
    "LoRA": ("llama", "LoraConfig", real.LORA),
    "DoRA": ("llama", "LoraConfig", {**real.LORA, "use_dora": True}),
    "PiSSA": ("llama", "LoraConfig", {**real.LORA, "init_lora_weights": "pissa"}),
    "a saved head": ("llama", "LoraConfig", {**real.LORA, "modules_to_save": ["lm_head"]}),
    "token rows": ("llama", "LoraConfig", {**real.LORA, "trainable_token_indices": [3, 5]}),
    "a LoRA on tied embeddings": ("llama-tied", "LoraConfig", {**real.LORA, "target_modules": ["q_proj", "embed_tokens"]}),
    "every bias": ("gpt2", "LoraConfig", {"r": 4, "target_modules": ["c_attn"], "bias": "all", "fan_in_fan_out": True}),
    "a classifier": ("bert", "LoraConfig", {"r": 4, "target_modules": ["query"], "task_type": "SEQ_CLS"}),
    "experts": ("mixtral", "LoraConfig", {"r": 4, "target_parameters": ["experts.down_proj"], "target_modules": ["q_proj"]}),
    "AdaLoRA": ("llama", "AdaLoraConfig", {"total_step": 10, "target_modules": ["q_proj"]}),
    "a prompt": ("llama", "PromptTuningConfig", {"num_virtual_tokens": 3, "task_type": "CAUSAL_LM"}),
    "a prefix": ("llama", "PrefixTuningConfig", {"num_virtual_tokens": 3, "task_type": "CAUSAL_LM"}),
    "adaption prompts": ("llama", "AdaptionPromptConfig", {"adapter_len": 4, "adapter_layers": 2, "task_type": "CAUSAL_LM"}),
}  # fmt: skip


def guarded(model, folder, **arguments):
    with real.quiet():
        return adapterfit.save(model, folder, **arguments)


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("what", METHODS)
def test_what_is_saved_is_what_peft_saves_and_it_is_stamped(what, tmp_path):
    import torch

    family, kind, config = METHODS[what]
    model = real.trained(real.base(family), kind, **config)
    with real.quiet():
        model.save_pretrained(str(tmp_path / "plain"))
    folder = guarded(model, tmp_path / "guarded")
    assert files(folder) == sorted([*files(tmp_path / "plain"), "adapterfit.json"])
    ours, theirs = real.tensors(folder), real.tensors(tmp_path / "plain")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with real.quiet():
        assert adapterfit.load(real.base(family), folder) is not None


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    folder = guarded(real.trained(real.base(), **real.LORA), tmp_path / "a")
    (tmp_path / "plain").touch()
    usual = (tmp_path / "plain").stat().st_mode
    assert {path.stat().st_mode for path in folder.iterdir()} == {usual}


def test_a_second_adapter_goes_to_its_own_folder_and_each_is_stamped(tmp_path):
    import peft

    model = real.trained(real.base(), **real.LORA)
    model.add_adapter("second", peft.LoraConfig(**{**real.LORA, "r": 2}))
    folder = guarded(model, tmp_path / "both")
    assert {"adapterfit.json", "second/adapterfit.json", "second/adapter_config.json"} <= set(files(folder))


def test_a_compiled_model_is_unwrapped_and_left_as_it_was(tmp_path):
    import torch

    model = torch.compile(real.trained(real.base(), **real.LORA))
    folder = guarded(model, tmp_path / "a")
    assert not any("_orig_mod" in name for name in real.tensors(folder))
    assert type(model).__name__ == "OptimizedModule"


def test_a_base_that_was_compiled_before_it_was_wrapped_leaves_no_trace_in_the_names(tmp_path):
    import torch

    model = real.trained(torch.compile(real.base()), **{**real.LORA, "task_type": None})
    assert any("_orig_mod" in name for name in model.state_dict())
    folder = guarded(model, tmp_path / "a")
    assert not any("_orig_mod" in name for name in real.tensors(folder))
    assert any("_orig_mod" in name for name in model.state_dict())
    assert adapterfit.check(str(folder), base=real.base()).verdict == "fits"


def test_a_gathered_state_dict_is_what_is_saved(tmp_path):
    model = real.trained(real.base(), **real.LORA)
    gathered = {f"{name}": tensor.clone() for name, tensor in model.state_dict().items()}
    assert guarded(model, tmp_path / "a", state_dict=gathered)


def test_a_start_that_is_subtracted_while_saving_is_no_misfit(tmp_path):
    import peft

    with real.quiet():
        model = peft.get_peft_model(real.base(), peft.LoraConfig(**{**real.LORA, "init_lora_weights": "pissa"}))
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(str(tmp_path / "start"))
        model.peft_config["default"].init_lora_weights = "pissa"
    folder = guarded(
        model,
        tmp_path / "a",
        path_initial_model_for_weight_conversion=str(tmp_path / "start"),
        allow=("never-trained",),
    )
    assert adapterfit.check(str(folder), base=real.base()).predicted == "loads"


def without_tensors():
    model = real.trained(real.base(), **real.LORA)
    return model, {"state_dict": {name: t for name, t in model.state_dict().items() if "lora" not in name}}


def half_of_the_tensors():
    model = real.trained(real.base(), **real.LORA)
    return model, {"state_dict": {name: t for name, t in model.state_dict().items() if "layers.1" not in name}}


def empty_as_zero3_leaves_them():
    import torch

    model = real.trained(real.base(), **real.LORA)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.ds_shape = tuple(parameter.shape)
            parameter.data = torch.empty(0)
    return model, {}


def flat_as_fsdp_leaves_them():
    model = real.trained(real.base(), **real.LORA)
    return model, {"state_dict": {n: t.reshape(-1) if "lora_" in n else t for n, t in model.state_dict().items()}}


def not_finite():
    model = real.trained(real.base(), **real.LORA)
    model.base_model.model.model.layers[0].self_attn.q_proj.lora_A["default"].weight.data[0, 0] = float("nan")
    return model, {}


def task_forgotten():
    return real.trained(real.base("bert"), r=4, target_modules=["query"]), {"selected_adapters": []}


REFUSED = [
    without_tensors,
    half_of_the_tensors,
    empty_as_zero3_leaves_them,
    flat_as_fsdp_leaves_them,
    not_finite,
    task_forgotten,
]


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__.replace("_", " "))
def test_what_could_not_be_loaded_again_is_refused_and_nothing_is_left_behind(make, tmp_path):
    model, arguments = make()
    (tmp_path / "out").mkdir()
    with pytest.raises(adapterfit.AdapterMisfit):
        guarded(model, tmp_path / "out" / "adapter", **arguments)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_refusal_leaves_the_last_good_adapter_in_place(tmp_path):
    folder = guarded(real.trained(real.base(), **real.LORA), tmp_path / "a")
    before = {name: (folder / name).read_bytes() for name in files(folder)}
    model, _ = not_finite()
    with pytest.raises(adapterfit.AdapterMisfit):
        guarded(model, folder)
    assert {name: (folder / name).read_bytes() for name in files(folder)} == before


def test_saving_again_replaces_the_adapter_and_keeps_the_users_page(tmp_path):
    folder = guarded(real.trained(real.base(), **real.LORA), tmp_path / "a")
    (folder / "README.md").write_text("my own words", "utf-8")
    guarded(real.trained(real.base(), **{**real.LORA, "r": 2}), folder)
    assert next(iter(real.tensors(folder).values())).shape[0] == 2
    assert (folder / "README.md").read_text("utf-8") == "my own words"
    assert parse_stamp((folder / "adapterfit.json").read_bytes()).adapter_config.values["r"] == 2


@pytest.mark.parametrize("model", [real.base, object, lambda: None], ids=["a base", "an object", "None"])
def test_what_is_no_peft_model_is_said_so(model, tmp_path):
    with pytest.raises(adapterfit.CannotCheck, match="PeftModel"):
        adapterfit.save(model(), tmp_path / "a")


def test_a_file_in_the_way_is_a_one_line_error(tmp_path):
    (tmp_path / "a").write_text("x", "utf-8")
    with pytest.raises(adapterfit.CannotCheck, match="no folder"):
        guarded(real.trained(real.base(), **real.LORA), tmp_path / "a")
