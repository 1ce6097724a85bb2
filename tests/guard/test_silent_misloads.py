"""Every mis-load that PEFT performs without an error: `adapterfit.load` refuses it before a forward pass.

Three tables. `SILENT`: found from the file and the live base alone. `STAMPED`: found with a stamp beside the adapter, because
nothing in the file itself tells, each row with the reason. `NOT_DETECTABLE`: not found, each with the reason; a test holds that
it is so, so that a row which becomes detectable has to move.
"""

from __future__ import annotations

import json

import pytest
import real

import adapterfit

pytestmark = pytest.mark.exact

LORA = real.LORA
WIDE = {**LORA, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
BERT = {"r": 4, "lora_alpha": 8, "target_modules": ["query"], "task_type": "SEQ_CLS"}


def plain(folder, **config):
    return real.saved(folder, **{**LORA, **config})


def _only(folder, wanted):
    real.rewrite(folder, lambda held: {name: tensor for name, tensor in held.items() if wanted(name)})


def with_rename(change, **config):
    return lambda folder: (plain(folder, **config), real.rename(folder, change))


def with_fields(config=LORA, **fields):
    return lambda folder: (real.saved(folder, **config), real.reconfigure(folder, **fields))


def without(wanted, *, family="llama", kind="LoraConfig", **config):
    def make(folder):
        real.saved(folder, real.base(family), kind, **(config or LORA))
        before = len(real.tensors(folder))
        _only(folder, lambda name: not wanted(name))
        assert len(real.tensors(folder)) < before

    return make


def with_numbers(change, **config):
    def make(folder):
        plain(folder, **config)
        real.rewrite(folder, lambda held: {name: change(name, tensor) for name, tensor in held.items()})

    return make


def with_more(tensors, **config):
    def make(folder):
        import torch

        plain(folder, **config)
        real.rewrite(folder, lambda held: {**held, **{name: torch.ones(shape) for name, shape in tensors.items()}})

    return make


def other_method(kind, **config):
    return lambda folder: real.saved(folder, kind=kind, **config)


def changed_embedding(folder):
    real.saved(folder, **{**LORA, "target_modules": ["q_proj", "embed_tokens"]})
    real.rewrite(folder, lambda held: {n: t + 1 if n.endswith("base_layer.weight") else t for n, t in held.items()})


def old_biases(folder):
    """`bias="all"` as PEFT up to 0.6.2 wrote it."""
    real.saved(
        folder, real.base("gpt2"), **{**LORA, "target_modules": ["c_attn"], "bias": "all", "fan_in_fan_out": True}
    )
    real.rename(folder, lambda name: name.replace("base_layer.bias", "bias"))


def lost_biases(folder):
    """`bias="lora_only"` as PEFT 0.10.0 to 0.20.0 wrote it: trained, and not in the file."""
    config = {**LORA, "target_modules": ["c_attn"], "bias": "lora_only", "fan_in_fan_out": True}
    real.saved(folder, real.base("gpt2"), **config)
    _only(folder, lambda name: not name.endswith("bias"))
    real.reconfigure(folder, peft_version="0.18.0")


def bias_elsewhere(folder):
    """A bias for a module that has none in the base."""
    plain(folder, bias="all")
    import torch

    real.rewrite(
        folder,
        lambda held: {**held, "base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias": torch.ones(64)},
    )


def old_lokr(folder):
    """A LoKr whose config has the fields that PEFT 0.13 wrote, and none that came later."""
    real.saved(folder, kind="LoKrConfig", r=4, alpha=8, target_modules=["q_proj"])
    path = folder / real.CONFIG
    config = json.loads(path.read_text("utf-8"))
    later = {"exclude_modules", "rank_dropout_scale", "peft_version"}
    path.write_text(json.dumps({key: value for key, value in config.items() if key not in later}), "utf-8")


def head_forgotten(folder):
    real.saved(folder, real.base("bert"), **BERT)
    real.reconfigure(folder, modules_to_save=None, task_type=None)


def prompt_without_task(folder):
    real.saved(folder, kind="PromptTuningConfig", num_virtual_tokens=3, task_type="CAUSAL_LM")
    real.reconfigure(folder, task_type=None)


def written_by(folder, release, *later, **fields):
    """The config as that release wrote it: without the fields that came later."""
    path = folder / real.CONFIG
    config = json.loads(path.read_text("utf-8"))
    config = {key: value for key, value in config.items() if key not in later}
    path.write_text(json.dumps({**config, **fields, **({"peft_version": release} if release else {})}), "utf-8")


#: Fields of LoraConfig since 0.18, and since 0.14.
SINCE_18 = (
    "peft_version", "alora_invocation_tokens", "arrow_config", "ensure_weight_tying", "lora_ga_config", "use_bdlora",
    "monteclora_config", "velora_config", "kasa_config",
)  # fmt: skip
SINCE_14 = (
    *SINCE_18, "exclude_modules", "eva_config", "lora_bias", "trainable_token_indices", "corda_config", "use_qalora",
    "qalora_group_size", "target_parameters",
)  # fmt: skip


def mixed_adapters(folder):
    """X-LoRA as PEFT saves it: the classifier that mixes the adapters is not in the file."""
    one = real.saved(folder.parent / "one", **LORA)
    config = {"task_type": "CAUSAL_LM", "hidden_size": 64, "adapters": {"a": str(one)}, "xlora_depth": 1}
    real.saved(folder, base(UNCACHED), "XLoraConfig", **config)


def kasa_forgotten(folder):
    import peft

    real.saved(folder, **{**LORA, "kasa_config": peft.KasaConfig()})
    assert any(name.endswith("lora_diag") for name in real.tensors(folder))
    real.reconfigure(folder, kasa_config=None)


def old_experts(folder):
    """Experts whose matrices are square, as PEFT 0.18 wrote them: the same shapes, the two sides exchanged."""
    experts = {"target_parameters": ["experts.gate_up_proj"], "target_modules": ["q_proj"], "r": 4}
    real.saved(folder, base(SQUARE), **experts, task_type="CAUSAL_LM")
    real.reconfigure(folder, peft_version="0.18.1")


def old_patterns(folder):
    """Patterns of ranks and scales of which PEFT before 0.14 took one key for both."""
    patterns = {"rank_pattern": {"q_proj": 8}, "alpha_pattern": {"self_attn.q_proj": 3}}
    real.saved(folder, **{**LORA, **patterns})
    written_by(folder, "", *SINCE_14)


def old_embedding(folder):
    """A LoRA on an embedding that scales its output, as PEFT before 0.18 trained it."""
    real.saved(folder, base(SCALED), **{**LORA, "target_modules": ["embed_tokens"]})
    written_by(folder, "", *SINCE_18)


def old_rows(folder):
    """Rows of tokens on an embedding that scales its output, as PEFT before 0.18 trained them: without the scale for any token."""
    real.saved(folder, base(SCALED), **{**LORA, "trainable_token_indices": [3, 5]})
    written_by(folder, "", *SINCE_18)


def old_oft(folder):
    """OFT as PEFT 0.15 wrote it: the matrices under another name, which today's guard against them no longer sees."""
    real.saved(folder, kind="OFTConfig", r=0, oft_block_size=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    real.rename(folder, lambda name: name.replace("oft_R.weight", "oft_r"))
    real.reconfigure(folder, peft_version="0.15.2")


def old_own_biases(folder):
    """`bias="lora_only"` as PEFT up to 0.6.2 wrote it."""
    config = {**LORA, "target_modules": ["c_attn"], "bias": "lora_only", "fan_in_fan_out": True}
    real.saved(folder, real.base("gpt2"), **config)
    real.rename(folder, lambda name: name.replace("base_layer.bias", "bias"))


def option_forgotten(option, make, mark):
    """An option of LoRA that brought tensors of its own, and that the config forgot."""

    def saved(folder):
        import peft

        real.saved(folder, **{**LORA, option: getattr(peft, make)()})
        assert any(mark in name for name in real.tensors(folder))
        real.reconfigure(folder, **{option: None})

    return saved


def compressed(folder):
    """VB-LoRA that saved its best choices only, under a config that says it saved all."""
    sizes = {"vector_length": 16, "num_vectors": 32, "target_modules": ["q_proj"]}
    real.saved(folder, kind="VBLoRAConfig", **sizes, save_only_topk_weights=True)
    real.reconfigure(folder, save_only_topk_weights=False)


def another_method(folder):
    real.saved(folder, kind="LoHaConfig", r=4, target_modules=["q_proj"])
    real.reconfigure(folder, peft_type="LORA", lora_alpha=8)


def target_saved_too(folder):
    """A module both adapted and saved, as PEFT up to 0.5 wrote it."""
    head = "base_model.model.lm_head.lora_"
    with_more({f"{head}A.weight": (4, 64), f"{head}B.weight": (256, 4)}, modules_to_save=["lm_head"])(folder)


def torn_tie(folder):
    """Both sides of a tied embedding, saved with numbers that are no longer equal."""
    sides = ["q_proj", "embed_tokens", "lm_head"]
    real.saved(folder, real.base("llama-tied"), **{**LORA, "target_modules": sides})
    real.rewrite(
        folder, lambda held: {n: t + 1 if n.endswith("lm_head.base_layer.weight") else t for n, t in held.items()}
    )


def drawn_without_a_seed(folder):
    """TinyLoRA of PEFT 0.19, whose projections were drawn without a seed and not saved."""
    real.saved(folder, kind="TinyLoraConfig", r=2, save_projection=False, target_modules=["q_proj"])
    real.reconfigure(folder, peft_version="0.19.1")


def clustered(release="", **fields):
    """AdaMSS: which rows a segment has is found anew from the base, with scikit-learn."""

    def make(folder):
        pytest.importorskip("sklearn", reason="AdaMSS needs scikit-learn")
        real.saved(folder, kind="AdamssConfig", r=4, target_modules=["q_proj"])
        written_by(folder, release, *(("random_seed",) if release else ()), **fields)

    return make


UNCACHED = {"use_cache": False}
SQUARE = {"family": "mixtral", "intermediate_size": 32}
SCALED = {"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], "head_dim": 16}


def exchanged(folder):
    """Two configs of one project exchanged: every tensor fits, under another method's name."""
    plain(folder)
    real.reconfigure(folder, target_modules=["q_proj"])


#: What → (how the adapter gets that way, the base it is loaded on, further arguments of the loader).
SILENT = {
    "a tensor is missing": (without(lambda n: "layers.0.self_attn.q_proj.lora_B" in n), {}, {}),
    "a tensor is missing, and memory is saved": (
        without(lambda n: "layers.0.self_attn.q_proj.lora_B" in n), {}, {"low_cpu_mem_usage": True},
    ),
    "a layer is missing": (without(lambda n: "layers.1." in n), {}, {}),
    "the file is empty": (without(lambda _: True), {}, {}),
    "keys without base_model": (with_rename(lambda n: n.replace("base_model.model.", "", 1)), {}, {}),
    "keys with a level less": (with_rename(lambda n: n.replace("base_model.model.model.", "base_model.model.", 1)), {}, {}),
    "keys with _orig_mod": (with_rename(lambda n: n.replace("base_model.model.", "base_model.model._orig_mod.", 1)), {}, {}),
    "keys with DDP's module": (with_rename(lambda n: "module." + n), {}, {}),
    "keys with FSDP's wrapper": (with_rename(lambda n: n.replace("model.layers", "model._fsdp_wrapped_module.layers", 1)), {}, {}),
    "keys with base_layer inside": (with_rename(lambda n: n.replace(".lora_", ".base_layer.lora_")), {}, {}),
    "keys with another adapter's name": (with_rename(lambda n: n.replace(".weight", ".other.weight")), {}, {}),
    "a base with fewer layers": (plain, {"num_hidden_layers": 1}, {}),
    "a base with more layers": (plain, {"num_hidden_layers": 3}, {}),
    "a tensor that is nowhere": (with_more({"base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight": (4, 64)}), {}, {}),
    "fewer targets in the config": (exchanged, {}, {}),
    "exclude_modules in the config": (with_fields(exclude_modules=["layers.1.self_attn.q_proj"]), {}, {}),
    "layers_to_transform in the config": (with_fields(layers_to_transform=[0]), {}, {}),
    "a regular expression that is too narrow": (with_fields(target_modules=r".*layers\.0\..*(q|v)_proj"), {}, {}),
    "more targets in the config": (with_fields(target_modules=WIDE["target_modules"]), {}, {}),
    "DoRA's flag is lost": (with_fields({**LORA, "use_dora": True}, use_dora=False), {}, {}),
    "DoRA's vectors are missing": (with_fields(use_dora=True), {}, {}),
    "KaSA's diagonal without its config": (
        with_more({f"base_model.model.model.layers.{i}.self_attn.{m}_proj.lora_diag": (4,) for i in (0, 1) for m in "qv"}), {}, {},
    ),
    "LoRA biases without their flag": (with_fields({**LORA, "lora_bias": True}, lora_bias=False), {}, {}),
    "token rows without their indices": (with_fields({**LORA, "trainable_token_indices": [3, 5]}, trainable_token_indices=None), {}, {}),
    "a saved head that the config forgot": (head_forgotten, {"family": "bert"}, {}),
    "a saved lm_head that the config forgot": (with_fields({**LORA, "modules_to_save": ["lm_head"]}, modules_to_save=None), {"seed": 1}, {}),
    "biases in the layout of 0.6": (old_biases, {"family": "gpt2"}, {}),
    "biases that were trained and not saved": (lost_biases, {"family": "gpt2"}, {}),
    "a bias for a module without one": (bias_elsewhere, {}, {}),
    "an embedding that differs from the base's": (changed_embedding, {}, {}),
    "PiSSA from a random decomposition": (lambda folder: plain(folder, init_lora_weights="pissa_niter_1"), {}, {}),
    "a LoRA-GA adapter on the published base": (with_fields(init_lora_weights="lora_ga"), {}, {}),
    "a LoKr whose scale was ignored where it was trained": (old_lokr, {}, {}),
    "a prompt whose task_type is null": (prompt_without_task, {}, {}),
    "a prefix on a base with more layers": (
        other_method("PrefixTuningConfig", num_virtual_tokens=3, task_type="CAUSAL_LM"), {"num_hidden_layers": 3}, {},
    ),
    "a prompt on a wider base": (
        other_method("PromptTuningConfig", num_virtual_tokens=3, task_type="CAUSAL_LM"), {"hidden_size": 96}, {},
    ),
    "VB-LoRA without its vector bank": (
        without(lambda n: "vector_bank" in n, kind="VBLoRAConfig", vector_length=16, num_vectors=32, target_modules=["q_proj"]), {}, {},
    ),
    "TinyLoRA without its vectors": (
        without(lambda n: "tinylora_v" in n, kind="TinyLoraConfig", r=2, target_modules=["q_proj"]), {}, {},
    ),
    "SHiRA without its indices": (
        without(lambda n: "indices" in n, kind="ShiraConfig", r=4, target_modules=["q_proj"]), {}, {},
    ),
    "an adaption prompt without its gates": (
        without(lambda n: "gate" in n, kind="AdaptionPromptConfig", adapter_len=4, adapter_layers=2, task_type="CAUSAL_LM"), {}, {},
    ),
    "a multitask prompt without the rows of its tasks": (
        without(
            lambda n: "prefix_task" in n, family="llama", kind="MultitaskPromptTuningConfig", num_virtual_tokens=3, num_tasks=2,
            task_type="CAUSAL_LM",
        ), {}, {},
    ),
    "the output of an attention of torch, which never calls it": (
        lambda folder: real.saved(folder, real.base("siglip"), r=4, target_modules=["attention.out_proj"]), {"family": "siglip"}, {},
    ),
    "an embedding that only lends its weight": (
        lambda folder: real.saved(folder, real.base("t5"), r=4, target_modules=["shared"]), {"family": "t5"}, {},
    ),
    "numbers that are not finite": (with_numbers(lambda n, t: t * float("inf")), {}, {}),
    "an adapter that was never trained": (with_numbers(lambda n, t: t * 0 if "lora_B" in n else t), {}, {}),
    "integers where a quantiser went over the file": (with_numbers(lambda n, t: (t / t.abs().max() * 127).char() if "lora_B" not in n else (t * 100).char()), {}, {}),
    "X-LoRA without its classifier": (mixed_adapters, UNCACHED, {}),
    "KaSA's config is lost": (kasa_forgotten, {}, {}),
    "square experts in the layout of 0.18": (old_experts, SQUARE, {}),
    "patterns that 0.13 read as one": (old_patterns, {}, {}),
    "an embedding whose scale 0.17 left out": (old_embedding, SCALED, {}),
    "rows of tokens whose scale 0.17 left out": (old_rows, SCALED, {}),
    "OFT of 0.15": (old_oft, {}, {}),
    "biases of adapted modules in the layout of 0.6": (old_own_biases, {"family": "gpt2"}, {}),
    "MonteCLoRA's config is lost": (option_forgotten("monteclora_config", "MontecloraConfig", "monteclora"), {}, {}),
    "VeLoRA's config is lost": (option_forgotten("velora_config", "VeloraConfig", "velora"), {}, {}),
    "VB-LoRA's choices under another option": (compressed, {}, {}),
    "another method's tensors under LoRA's name": (another_method, {}, {}),
    "names that lost a segment to the adapter's name": (
        with_rename(lambda n: n.replace(".q_proj.", "."), target_modules=["q_proj"]), {}, {},
    ),
    "targets that 0.4 took for the ends of names": (with_fields(WIDE, target_modules=["proj", "q_proj"]), {}, {}),
    "a target that was saved as well, of 0.5": (target_saved_too, {}, {}),
    "two sides of a tie that differ": (torn_tie, {"family": "llama-tied"}, {}),
    "a method that saved nothing": (
        other_method("OSFConfig", target_modules=["embed_tokens"], effective_rank=4, task_type="CAUSAL_LM"), {}, {},
    ),
    "TinyLoRA of 0.19 without its projections": (drawn_without_a_seed, {}, {}),
    "AdaMSS of 0.19": (clustered("0.19.1"), {}, {}),
    "AdaMSS with another seed": (clustered(random_seed=7), {}, {}),
    "UniLoRA without its vector": (
        without(lambda n: "theta" in n, kind="UniLoraConfig", r=4, target_modules=["q_proj"]), {}, {},
    ),
    "sizes that differ, ignored": (with_fields(r=8), {}, {"ignore_mismatched_sizes": True}),
}  # fmt: skip


def base(changes):
    changes = dict(changes)
    return real.base(changes.pop("family", "llama"), **changes)


@pytest.mark.parametrize("what", SILENT)
def test_peft_is_silent_and_load_refuses(what, tmp_path):
    make, changes, arguments = SILENT[what]
    make(tmp_path / "adapter")
    real.plain_load(base(changes), tmp_path / "adapter", **arguments)
    model = base(changes)
    with pytest.raises(adapterfit.AdapterMisfit) as refused, real.quiet():
        adapterfit.load(model, tmp_path / "adapter", **arguments)
    assert refused.value.report is not None
    assert "\n" not in str(refused.value)


def test_a_config_given_in_place_of_the_files_is_checked(tmp_path):
    import peft

    folder = plain(tmp_path / "adapter")
    given = peft.LoraConfig(**{**LORA, "target_modules": ["q_proj"]})
    real.plain_load(real.base(), folder, config=given)
    with pytest.raises(adapterfit.AdapterMisfit), real.quiet():
        adapterfit.load(real.base(), folder, config=peft.LoraConfig(**{**LORA, "target_modules": ["q_proj"]}))


def edited(save=plain, **fields):
    return save, lambda folder: real.reconfigure(folder, **fields)


def unchanged(save=plain):
    return save, lambda folder: None


def saved_with(kind="LoraConfig", **config):
    return lambda folder: real.saved(folder, kind=kind, **config)


def kasa(folder):
    import peft

    return real.saved(folder, **{**LORA, "kasa_config": peft.KasaConfig()})


ROWS = saved_with(**{**LORA, "trainable_token_indices": [3, 5]})
QUERY = {"target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
FOURIER = saved_with("FourierFTConfig", n_frequency=20, **QUERY)

#: What → (how it is saved, what happens to it then, the base it is loaded on, what the stamp finds, why nothing else tells).
STAMPED = {
    "lora_alpha changed": (*edited(lora_alpha=32), {}, "config-edited", "the scale stands in the config alone; any number is a possible one"),
    "use_rslora lost": (
        *edited(saved_with(**{**LORA, "use_rslora": True}), use_rslora=False), {}, "config-edited", "the flag leaves no trace in the tensors",
    ),
    "alpha_pattern lost": (
        *edited(saved_with(**{**LORA, "alpha_pattern": {"q_proj": 2}}), alpha_pattern={}), {}, "config-edited", "as lora_alpha",
    ),
    "token indices permuted": (*edited(ROWS, trainable_token_indices=[5, 3]), {}, "config-edited", "rows are saved without their indices"),
    "token indices changed": (*edited(ROWS, trainable_token_indices=[3, 6]), {}, "config-edited", "rows are saved without their indices"),
    "a seed changed": (
        *edited(FOURIER, random_loc_seed=123), {}, "config-edited", "the places are drawn anew from the seed; only the numbers are saved",
    ),
    "aLoRA's tokens lost": (
        *edited(saved_with(**{**LORA, "alora_invocation_tokens": [7, 8]}), alora_invocation_tokens=None), {}, "config-edited",
        "they decide at inference when the adapter acts; no tensor belongs to them",
    ),
    "aLoRA's tokens added": (*edited(alora_invocation_tokens=[7, 8]), {}, "config-edited", "as aLoRA's tokens lost"),
    "a module to save that is not there": (
        *edited(modules_to_save=["score"]), {}, "config-edited", "PEFT passes over names that match nothing, and they change nothing",
    ),
    "VeRA's key changed": (
        *edited(saved_with("VeraConfig", r=8, save_projection=False, **QUERY), projection_prng_key=7), {}, "config-edited",
        "the projections are drawn anew from the key, and not saved",
    ),
    "RandLoRA's key changed": (
        *edited(saved_with("RandLoraConfig", r=4, save_projection=False, **QUERY), projection_prng_key=7), {}, "config-edited",
        "as VeRA's",
    ),
    "WaveFT's seed changed": (
        *edited(saved_with("WaveFTConfig", n_frequency=20, **QUERY), random_loc_seed=7), {}, "config-edited", "as a seed changed",
    ),
    "UniLoRA's seed changed": (
        *edited(saved_with("UniLoraConfig", r=4, **QUERY), proj_seed=7), {}, "config-edited", "as a seed changed",
    ),
    "PSOFT's seed changed": (
        *edited(saved_with("PsoftConfig", r=4, psoft_svd="lowrank", **QUERY), random_seed=7), {}, "config-edited",
        "the directions are found anew from the base, and the seed of the draw stands in the config alone",
    ),
    "PSOFT on other weights of the same shapes": (
        *unchanged(saved_with("PsoftConfig", r=4, **QUERY)), {"seed": 5}, "base-changed", "its directions come from the base's weights",
    ),
    "KaSA on other weights of the same shapes": (
        *unchanged(kasa), {"seed": 5}, "base-changed", "it cuts off the base's own directions again at every load",
    ),
    "PiSSA's start forgotten": (
        *edited(saved_with(**{**LORA, "init_lora_weights": "pissa"}), init_lora_weights=True), {}, "config-edited",
        "the tensors of PiSSA look like any others",
    ),
    "other weights of the same shapes": (*unchanged(), {"seed": 5}, "base-changed", "names and shapes of the bases are equal"),
    "another rotary base": (
        *unchanged(), {"rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}}, "base-changed", "it shows in no shape",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", STAMPED)
def test_without_a_stamp_nothing_tells(what, tmp_path):
    save, change, changes, _, why = STAMPED[what]
    save(tmp_path / "adapter")
    change(tmp_path / "adapter")
    assert why
    with real.quiet():
        assert adapterfit.load(base(changes), tmp_path / "adapter") is not None


@pytest.mark.parametrize("what", STAMPED)
def test_with_a_stamp_load_refuses(what, tmp_path):
    save, change, changes, cause, _ = STAMPED[what]
    save(tmp_path / "adapter")
    adapterfit.stamp(tmp_path / "adapter", base({}))
    with real.quiet():
        assert adapterfit.load(base({}), tmp_path / "adapter") is not None
    change(tmp_path / "adapter")
    real.plain_load(base(changes), tmp_path / "adapter")
    with pytest.raises(adapterfit.AdapterMisfit, match=cause), real.quiet():
        adapterfit.load(base(changes), tmp_path / "adapter")
    with real.quiet():
        assert adapterfit.load(base(changes), tmp_path / "adapter", allow=(cause,)) is not None


def merged_base():
    with real.quiet():
        return real.trained(real.base(), **LORA).merge_and_unload()


def test_a_base_into_which_the_adapter_was_merged_before_is_found_by_the_stamp(tmp_path):
    plain(tmp_path / "adapter")
    adapterfit.stamp(tmp_path / "adapter", real.base())
    with pytest.raises(adapterfit.AdapterMisfit, match="4 of 4 touched modules"), real.quiet():
        adapterfit.load(merged_base(), tmp_path / "adapter")


#: What nothing tells, stamp or not, each with the reason: these load, and it is known.
NOT_DETECTABLE = {
    "PiSSA on the same base in another precision": (
        saved_with(**{**LORA, "init_lora_weights": "pissa"}), "bfloat16",
        "PEFT repeats the decomposition in the base's precision; a stamp calls a cast base the same base. init-changes-base notes it",
    ),
    "two weight files that disagree": (
        lambda folder: (plain(folder), (folder / "adapter_model.bin").write_bytes((folder / real.WEIGHTS).read_bytes())), "float32",
        "PEFT takes the safetensors; which of two is the right one stands nowhere. two-weights-disagree warns",
    ),
    "an adapter trained with another alpha than it was saved with": (
        saved_with(**{**LORA, "lora_alpha": 3}), "float32", "the stamp keeps what was saved, not what was trained",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", NOT_DETECTABLE)
def test_what_is_not_detectable_loads(what, tmp_path):
    import torch

    save, precision, why = NOT_DETECTABLE[what]
    save(tmp_path / "adapter")
    assert why
    with real.quiet():
        adapterfit.stamp(tmp_path / "adapter", real.base())
        assert adapterfit.load(real.base().to(getattr(torch, precision)), tmp_path / "adapter") is not None
