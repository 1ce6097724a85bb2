"""What older peft and transformers do with an adapter, each rule by itself."""

import dataclasses

import pytest

import adapterfit
from adapterfit.consumers import model_types
from adapterfit.consumers.choice import choose
from adapterfit.expect import targets
from adapterfit.read import peft_facts
from adapterfit.testing import make


def report(sample, consumer):
    return adapterfit.check(sample.adapter, base=sample.case.base, consumer=consumer)


def ids(found):
    return {finding.id for finding in found.findings if finding.severity == "error"}


@pytest.mark.parametrize(
    ("consumer", "line", "remedy"),
    [
        ("peft==0.16.0,transformers==5.0.0", "ImportError: cannot import name 'HybridCache'", ">=4.44,<5"),
        ("peft==0.21.2,transformers==4.40.0", "ImportError: cannot import name 'EncoderDecoderCache'", ">=4.43"),
        ("peft==0.15.2,transformers==4.31.0", "ImportError: cannot import name 'Cache'", ">=4.43"),
    ],
    ids=["HybridCache", "EncoderDecoderCache", "Cache"],
)
def test_two_libraries_that_cannot_be_imported_together_are_named_with_a_cure(consumer, line, remedy):
    found = report(make.lora("llama"), consumer)
    assert found.predicted == "raises"
    assert found.raised.text.startswith(line)
    assert any(remedy in f.fix.summary for f in found.findings if f.id == "libraries-out-of-step")


@pytest.mark.parametrize(
    ("transformers", "line"), [("4.33.3", "KeyError: 'mixtral'"), ("4.40.0", "")], ids=["older", "younger"]
)
def test_a_base_that_transformers_does_not_know_yet_is_a_raise(transformers, line):
    found = report(make.lora("mixtral"), f"peft==0.10.0,transformers=={transformers}")
    assert ("base-unknown-to-transformers" in ids(found)) == bool(line)
    assert not line or found.raised.text == line


@pytest.mark.parametrize("saved", [["lm_head"], ["embed_tokens"], ["lm_head", "embed_tokens"]], ids=" and ".join)
@pytest.mark.parametrize(
    ("loader", "tied", "predicted"),
    [
        ("model.load_adapter", True, "loads-differently"),
        ("model.load_adapter", False, "loads"),
        ("PeftModel.from_pretrained", True, "loads"),
    ],
    ids=["one weight again", "an untied base", "copies of PEFT's own"],
)
def test_without_copies_what_was_trained_apart_becomes_one_weight_again(saved, loader, tied, predicted):
    """Measured with peft 0.5.0 beside transformers 4.33.3: no copies are made, and the file's tensors go into the base's own."""
    base = make.base("llama", tie_word_embeddings=tied)
    sample = make.lora("llama", base=base, modules_to_save=saved)
    who = choose("peft==0.5.0,transformers==4.33.3", loader)
    assert adapterfit.check(sample.adapter, sample.case.base, who).predicted == predicted


@pytest.mark.parametrize(("peft", "raises"), [("0.3.0", True), ("0.4.0", False)])
def test_safetensors_are_read_from_0_4_on(peft, raises):
    found = report(make.lora("llama"), f"peft=={peft},transformers==4.31.0")
    assert ("safetensors-unknown-to-loader" in ids(found)) == raises


@pytest.mark.parametrize(
    ("peft", "predicted"),
    [("0.5.0", "loads-differently"), ("0.7.1", "raises"), ("0.14.0", "loads"), ("0.21.0", "loads")],
)
def test_a_setting_that_the_loader_loses_is_no_load(peft, predicted):
    sample = make.lora("llama", use_rslora=True)
    found = report(sample, f"peft=={peft},transformers==4.44.2")
    assert found.predicted == predicted
    assert predicted == "loads" or any("peft>=0.14" in f.fix.summary for f in found.findings if f.fix)


def test_a_setting_that_keeps_modules_out_may_be_lost_where_layers_start_at_nothing():
    sample = make.lora("llama", target_modules=["q_proj", "v_proj"], exclude_modules=["v_proj"])
    found = report(sample, "peft==0.5.0,transformers==4.33.3")
    assert found.predicted == "loads"
    assert any(f.id == "config-key-unknown" and f.severity == "warning" for f in found.findings)


@pytest.mark.parametrize(
    ("peft", "named", "predicted"),
    [("0.6.2", "", "loads"), ("0.6.2", "base_layer.", "loads-partly"), ("0.7.1", "", "loads-partly"),
     ("0.7.1", "base_layer.", "loads")],
)  # fmt: skip
def test_biases_lie_where_the_loader_of_their_time_looks(peft, named, predicted):
    sample = make.adapter("bert", peft_type="LORA", r=4, target_modules=["query"], task_type=None, bias="all")
    at = "base_model.model.bert.encoder.layer.{}.attention.self.query.{}bias"
    sample = sample.added({at.format(layer, named): (64,) for layer in range(2)})
    assert report(sample, f"peft=={peft},transformers==4.36.2").predicted == predicted


@pytest.mark.parametrize(
    ("consumer", "apart"), [("peft==0.13.2,transformers==4.45.2", True), ("peft==0.20.0,transformers==5.12.1", False)]
)
def test_experts_are_modules_of_their_own_before_transformers_5(consumer, apart):
    tree = report(make.lora("mixtral", target_modules=["q_proj"]), consumer).diff.expectation.tree
    names = {module.name for module in tree.modules}
    assert ("model.layers.0.block_sparse_moe.experts.0.w1" in names) == apart


def test_model_types_have_bounds():
    assert model_types.lacks("4.35.2", "mixtral")
    assert not model_types.lacks("4.36.0", "mixtral")
    assert model_types.lacks("5.0.0", "nezha")
    assert not model_types.lacks("4.20.0", "a type no release has")


@pytest.mark.parametrize(("transformers", "raises"), [("5.5.4", False), ("5.12.1", True)])
def test_peft_0_19_cannot_convert_fused_experts_beside_a_later_transformers(transformers, raises):
    found = report(make.lora("mixtral", target_modules=["q_proj"]), f"peft==0.19.1,transformers=={transformers}")
    assert (found.predicted == "raises") == raises
    assert not raises or "distributed_operation" in found.raised.text


@pytest.mark.parametrize(
    ("fields", "consumer", "predicted", "said"),
    [
        ({"use_dora": True}, "transformers==5.23.0", "loads-partly", "magnitudes of DoRA"),
        ({"modules_to_save": ["lm_head"]}, "transformers==5.12.1", "loads-partly", "does not restore whole modules"),
        ({"alora_invocation_tokens": [1, 2]}, "transformers", "loads-without-effect", "acts on nothing"),
        ({}, "transformers==5.23.0", "loads", ""),
    ],
    ids=["DoRA", "a head", "aLoRA", "a plain LoRA"],
)
def test_where_transformers_alone_is_named_its_own_loader_is_answered_for(fields, consumer, predicted, said):
    sample = make.lora("llama", **fields)
    found = report(sample, consumer)
    assert found.predicted == predicted
    assert found.case.consumer.loader == "model.load_adapter"
    assert any(said in finding.message for finding in found.findings if finding.id == "loader-differs") or not said
    assert report(sample, "peft==0.21.2,transformers==5.23.0").predicted == "loads"


@pytest.mark.parametrize(
    ("fields", "consumer", "loader", "line"),
    [
        ({}, "peft==0.5.0,transformers==4.31.0", "model.load_adapter", "no attribute 'load_adapter'"),
        (
            {},
            "peft==0.18.1,transformers==5.18.0",
            "model.load_adapter",
            "No module named 'peft.utils.transformers_weight",
        ),
        ({"peft_type": "VERA", "r": 4}, None, "model.load_adapter", "because it uses shared state"),
        ({"peft_type": "POLY", "r": 4}, None, "model.load_adapter", "task_ids should not be None"),
        ({"bias": "all"}, None, "PeftModel.load_adapter", "LoraModel supports only 1 adapter with bias"),
    ],
    ids=["before there was one", "an older PEFT", "shared state", "Poly", "two biases"],
)
def test_a_loader_that_refuses_is_quoted(fields, consumer, loader, line):
    sample = make.adapter("llama", **{"peft_type": "LORA", "target_modules": ["q_proj"], **fields})
    found = adapterfit.check(sample.adapter, base=sample.case.base, consumer=consumer, loader=loader)
    assert found.predicted == "raises"
    assert line in found.raised.text


def test_a_loader_nobody_has_is_refused():
    with pytest.raises(adapterfit.CannotCheck, match="is not known"):
        adapterfit.check(make.lora("llama").adapter, loader="torch.load")


@pytest.mark.parametrize(("peft", "lands"), [("0.18.1", False), ("0.20.0", False), ("0.21.0", True)])
def test_keys_with_the_adapters_name_are_lost_before_0_21(peft, lands):
    """As real PEFT does: of the same file 0.18.1 and 0.20.0 leave every lora_B at zero, 0.21.0 loads it."""
    plain = make.lora("llama")
    named = plain.renamed(lambda name: name.replace(".weight", ".default.weight"))
    found = report(named, f"peft=={peft},transformers==5.23.0")
    assert found.predicted == ("loads" if lands else "loads-without-effect")
    assert ("adapter-name-in-keys" in ids(found)) != lands
    assert report(plain, f"peft=={peft},transformers==5.23.0").predicted == "loads"


def test_names_that_never_hold_an_adapters_name_are_found_before_0_21():
    sample = make.adapter("llama", peft_type="ADAPTION_PROMPT", adapter_len=4, adapter_layers=2, task_type="CAUSAL_LM")
    assert report(sample, "peft==0.18.1,transformers==4.57.6").predicted == "loads"


@pytest.mark.parametrize("consumer", ["peft==0.4.0,transformers==4.31.0", None], ids=["0.4.0", "newest"])
def test_the_causal_mask_that_an_old_peft_saved_along_is_no_loss(consumer):
    sample = make.lora("gpt2", target_modules=["c_attn"])
    masks = {"base_model.model.transformer.h.0.attn.bias": (1, 1, 128, 128)}
    assert report(sample.added(masks, dtype="BOOL"), consumer).predicted == "loads"
    assert report(sample.added(masks), consumer).predicted == "loads-partly"


def prompts_of_a_classifier(kind, kept):
    """As PEFT 0.15 and 0.16 write it, the head beside it or not: every field that they know, and none that came later."""
    facts = peft_facts.method(kind)
    fields = {name: facts.fields[name].default for name in facts.fields_of("0.15.2") - {"peft_type"}}
    given = {"num_virtual_tokens": 4, "task_type": "SEQ_CLS", "prefix_projection": False}
    sample = make.adapter(
        "bert", peft_type=kind, **{**fields, **{name: given[name] for name in given.keys() & fields.keys()}}
    )
    return sample.dropped(lambda name: "classifier" in name and not any(name.endswith(end) for end in kept))


@pytest.mark.parametrize("kind", ["PROMPT_TUNING", "PREFIX_TUNING"])
@pytest.mark.parametrize(
    ("peft", "kept", "predicted"),
    [("0.10.0", (), "loads"), ("0.10.0", ("weight",), "loads-partly"), ("0.10.0", ("weight", "bias"), "loads"),
     ("0.14.0", (), "loads"), ("0.21.0", (), "raises")],
    ids=["no head", "half a head", "a head", "no head, 0.14", "no head, a loader that asks for it"],
)  # fmt: skip
def test_prompts_that_may_have_been_trained_without_a_head_need_none(kind, peft, kept, predicted):
    found = report(prompts_of_a_classifier(kind, kept), f"peft=={peft},transformers==4.47.1")
    assert found.predicted == predicted
    noted = [each.severity for each in found.findings if each.id == "head-not-restored"]
    assert noted == ([] if kept == ("weight", "bias") else ["note"] if predicted == "loads" else ["error"])


@pytest.mark.parametrize(
    ("fields", "predicted"),
    [({"r": 4}, "raises"), ({"r": 8, "lora_alpha": 8}, "loads"), ({"r": 8, "lora_alpha": 16}, "loads-differently")],
    ids=["another rank", "every default", "another alpha"],
)
def test_transformers_beside_peft_0_14_0_forgets_a_whole_config_for_one_newer_key(fields, predicted):
    sample = make.lora("llama", target_modules=["q_proj", "v_proj"], **fields)
    who = "peft==0.14.0,transformers==4.49.0"
    newer = sample.with_config(corda_config=None)
    assert adapterfit.check(sample.adapter, sample.case.base, who, loader="model.load_adapter").predicted == "loads"
    assert adapterfit.check(newer.adapter, sample.case.base, who, loader="model.load_adapter").predicted == predicted
    assert adapterfit.check(newer.adapter, sample.case.base, who).predicted == "loads"


@pytest.mark.parametrize(("transformers", "raises"), [("4.47.1", False), ("4.49.0", True)])
def test_adaption_prompts_look_for_a_size_that_attention_no_longer_has(transformers, raises):
    sample = make.adapter("llama", peft_type="ADAPTION_PROMPT", adapter_len=4, adapter_layers=2, task_type="CAUSAL_LM")
    found = report(sample, f"peft==0.14.0,transformers=={transformers}")
    assert (found.raised is not None) == raises
    assert not raises or found.raised.text == "AttributeError: 'LlamaAttention' object has no attribute 'hidden_size'"


def test_prompts_of_a_second_adapter_lose_their_head_before_0_15():
    sample = prompts_of_a_classifier("PROMPT_TUNING", ("weight", "bias"))
    who = "peft==0.14.0,transformers==4.49.0"
    found = adapterfit.check(sample.adapter, sample.case.base, who, loader="PeftModel.load_adapter")
    assert found.predicted == "loads-differently"
    assert report(sample, who).predicted == "loads"


@pytest.mark.parametrize(("saved", "predicted"), [(None, "loads"), (["classifier", "score"], "loads-partly")])
def test_without_a_class_of_peft_only_the_config_makes_a_copy_of_the_head(saved, predicted):
    sample = make.lora("bert", target_modules=["query"], task_type="SEQ_CLS").with_config(modules_to_save=saved)
    who = "peft==0.20.0,transformers==5.17.0"
    found = adapterfit.check(sample.adapter, sample.case.base, who, loader="model.load_adapter")
    assert found.predicted == predicted


@pytest.mark.parametrize("peft", ["0.11.0", "0.14.0", "0.16.0"])
def test_a_module_that_is_saved_whole_is_no_target(peft):
    """Loaded with 0.4, 0.5, 0.11 and 0.14: the output layer, saved whole, gets no LoRA beside."""
    itself = make.lora("llama", target_modules=["q_proj", "lm_head"], modules_to_save=["lm_head"])
    assert report(itself, f"peft=={peft},transformers==4.51.3").predicted == "loads"


def rotations(peft, **fields):
    """BOFT as PEFT 0.11 writes it."""
    facts = peft_facts.method("BOFT")
    known = {name: facts.fields[name].default for name in facts.fields_of(peft) - {"peft_type", "boft_block_size"}}
    return make.adapter("llama", peft_type="BOFT", **{**known, "target_modules": ["q_proj"], **fields})


@pytest.mark.parametrize(("peft", "second"), [("0.11.0", "raises"), ("0.12.0", "raises"), ("0.13.0", "loads")])
def test_a_second_boft_has_the_factor_of_its_config_before_0_13(peft, second):
    """Measured with 0.11.0 and 0.13.2: the first adapter has 1 without the CUDA extension, a second one what its config says."""
    sample = rotations("0.11.0", boft_block_size=4, boft_n_butterfly_factor=2)
    who = f"peft=={peft},transformers==4.44.2"
    found = adapterfit.check(sample.adapter, sample.case.base, who, loader="PeftModel.load_adapter")
    assert (found.predicted, report(sample, who).predicted) == (second, "loads")
    assert found.verdict == ("fits" if second == "loads" else "fits-after-fix")
    assert second == "loads" or "size mismatch for" in found.raised.text


@pytest.mark.parametrize(
    ("factor", "line"),
    [(2, None), (7, "Invalid combination of in_features (64), boft_n_butterfly_factor (7) and boft_block_size (4)!")],
)
def test_a_factor_that_the_blocks_do_not_take_is_refused_of_a_second_boft(factor, line):
    sample = rotations("0.11.0", boft_block_size=4, boft_n_butterfly_factor=factor)
    who = "peft==0.12.0,transformers==4.44.2"
    made = sample.reshaped(lambda name: "boft_R" in name, lambda shape: (factor, *shape[1:]))
    found = adapterfit.check(made.adapter, made.case.base, who, loader="PeftModel.load_adapter")
    assert (found.raised.line if found.raised else None) == line


def test_the_directions_of_tinylora_have_no_effect_without_its_vectors():
    sample = make.adapter("llama", peft_type="TINYLORA", target_modules=["q_proj"], r=2, u=4)
    who = "peft==0.20.0,transformers==5.17.0"
    found = adapterfit.check(sample.adapter, sample.case.base, who, loader="model.load_adapter")
    assert found.predicted == "loads-without-effect"
    assert report(sample, who).predicted == "loads"


@pytest.mark.parametrize(
    ("base", "kind", "peft", "line"),
    [
        ("llama", "LOHA", "0.16.0", "ValueError: Please specify `target_modules` in `peft_config`"),
        ("llama", "LOHA", "0.17.0", None),
        ("qwen2", "LORA", "0.11.1", "ValueError: Please specify `target_modules` in `peft_config`"),
        ("qwen2", "LORA", "0.12.0", None),
        ("llama", "LORA", "0.2.0", "TypeError: 'NoneType' object is not iterable"),
    ],
)
def test_targets_that_are_left_open_are_those_of_the_release(base, kind, peft, line):
    facts = peft_facts.method(kind)
    known = (
        {name: facts.fields[name].default for name in facts.fields_of(peft) - {"peft_type"}} if kind == "LOHA" else {}
    )
    fields = {**known, "peft_type": kind, "r": 4, "target_modules": ["q_proj", "v_proj"]}
    sample = make.adapter(base, **fields).with_config(target_modules=None)
    rules = choose(f"peft=={peft},transformers==4.44.2")
    asked = dataclasses.replace(rules, rules={**rules.rules, "unknown-config-keys": "silent", "safetensors": True})
    found = adapterfit.check(sample.adapter, sample.case.base, asked)
    assert (found.raised.text if found.raised else None) == line


@pytest.mark.parametrize(("peft", "raises"), [("0.7.1", True), ("0.8.0", False), ("0.13.0", False)])
def test_all_linear_is_known_since_0_8(peft, raises):
    who = choose(f"peft=={peft},transformers==4.43.4")
    asked = dataclasses.replace(who, rules={**who.rules, "unknown-config-keys": "silent"})
    sample = make.lora("llama", target_modules="all-linear")
    found = adapterfit.check(sample.adapter, sample.case.base, asked)
    assert (found.raised is not None) == raises


@pytest.mark.parametrize(
    ("how", "head"), [("full names", False), ("last names with heads", True), ("last names", False)]
)
def test_the_head_of_a_classifier_is_no_target_of_all_linear_since_0_13(how, head):
    tree = report(make.lora("bert", target_modules=["query"], task_type="SEQ_CLS"), None).diff.expectation.tree
    names = targets.all_linear(tree, "SEQ_CLS", how)
    assert ("classifier" in names) == head
    assert {name.rpartition(".")[2] for name in names} - {"classifier"} == {"query", "key", "value", "dense"}


@pytest.mark.parametrize(("peft", "lands"), [("0.19.1", False), ("0.20.0", True)])
def test_peft_0_19_leaves_its_prefix_before_names_outside_of_model(peft, lands):
    """Measured beside transformers 5.8.1, whose patterns begin at the start: the language model's old names are not found."""
    sample = make.lora("llava", target_modules=r".*language_model.*q_proj")
    old = sample.renamed(lambda name: name.replace(".model.model.language_model.", ".model.language_model.model."))
    assert old.adapter.tensors != sample.adapter.tensors
    found = report(old, f"peft=={peft},transformers==5.8.1")
    assert found.predicted == ("loads" if lands else "loads-without-effect")


def test_a_second_lora_on_all_linear_is_refused_before_0_15():
    who = choose("peft==0.14.0,transformers==4.49.0", "PeftModel.load_adapter")
    sample = make.lora("llama", target_modules="all-linear")
    asked = dataclasses.replace(who, rules={**who.rules, "unknown-config-keys": "silent"})
    found = adapterfit.check(sample.adapter, sample.case.base, asked)
    assert found.raised.line == "Target module Identity() is not supported."
    assert report(sample, "peft==0.15.0,transformers==4.49.0").predicted == "loads"


@pytest.mark.parametrize(
    ("peft", "line"),
    [
        ("0.7.1", "AttributeError: ModulesToSaveWrapper has no attribute `gate_proj`"),
        ("0.13.2", "AttributeError: ModulesToSaveWrapper has no attribute `gate_proj`"),
        ("0.14.0", ""),
    ],
)
def test_a_copy_hides_the_targets_below_it(peft, line):
    """Measured with peft 0.7.1, 0.9.0, 0.10.0, 0.11.1 and 0.13.2; 0.14.0 loads, and reports what is missing."""
    sample = make.lora("llama", target_modules=["q_proj", "gate_proj"]).with_config(modules_to_save=["mlp"])
    plain = [field for field, value in sample.adapter.config.raw.items() if value in (None, False, {}, [])]
    found = report(sample.without_config(*plain), f"peft=={peft},transformers==4.44.2")
    assert (found.raised.text if found.raised is not None else "") == line


CHECKED = "ValueError: The `past_key_values` should be either a `Cache` object or `None`."
TUPLE = "AttributeError: 'tuple' object has no attribute 'get_seq_length'"


@pytest.mark.parametrize(
    ("family", "transformers", "line"),
    [
        ("llama", "4.53.3", CHECKED),
        ("mixtral", "4.53.3", TUPLE),
        ("gpt2", "4.53.3", ""),
        ("gpt2", "4.57.6", ""),
        ("llama", "4.57.6", TUPLE),
        ("llama", "4.49.0", ""),
    ],
)
def test_a_prefix_in_a_tuple_raises_where_the_model_does_not_take_one(family, transformers, line):
    """Prefix tuning of peft 0.13.2 was run on 22 model types beside transformers 4.51.3, 4.53.3 and 4.57.6."""
    sample = make.adapter(family, peft_type="PREFIX_TUNING", task_type="CAUSAL_LM", num_virtual_tokens=4)
    plain = [field for field, value in sample.adapter.config.raw.items() if value in (None, False, {}, [])]
    found = report(sample.without_config(*plain), f"peft==0.13.2,transformers=={transformers}")
    assert (found.raised.text if found.raised is not None else "") == line


@pytest.mark.parametrize(("peft", "warned"), [("0.12.0", True), ("0.13.2", False)], ids=["asks for nothing", "asks"])
def test_a_loader_that_lets_torch_run_a_pickle_is_named(peft, warned):
    forge = make.forge
    pickled = forge.of(forge.call(forge.name("posix", "system"), forge.text("true")))
    sample = make.weights_file({forge.BIN: forge.zipped(forge.torch_zip(pickled))})
    consumer = f"peft=={peft},transformers==4.44.2"
    report = adapterfit.check(sample.adapter, base=sample.case.base, consumer=consumer)
    found = [each for each in report.findings if each.code == "pickle-run-by-loader"]
    assert bool(found) == warned
    assert all(each.severity == "warning" and "before torch 2.6" in each.message for each in found)
