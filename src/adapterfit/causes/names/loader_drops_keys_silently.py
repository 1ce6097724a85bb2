"""Tensors of the file that nothing in the model wants; the loader drops them without a word.

What this means: `PeftModel.from_pretrained` loads with `strict=False` and never mentions what is left over. A part of what was
trained is not applied. Only the tensors that no other cause explains are listed here.

Why it happens: names from another tool or another version, a feature of the method that the config does not switch on
(`use_dora`, `lora_bias`), or modules the base does not have.

Detection: every name in the file is followed to the parameter it would land on; these reach none.

Fix: compare the names below with those of the model; load the base and the versions of the training.

Workaround: `model.load_adapter(...)` of PEFT returns the unexpected keys; transformers' own `load_adapter` lists them.

Prevention: after loading, compare the number of tensors in the file with the number that landed.

Setup:
    def with_connector():
        model = AutoModelForCausalLM.from_pretrained("base")
        torch.manual_seed(5)
        connector = torch.nn.Linear(32, 32)
        model.lm_head = torch.nn.Sequential()
        model.lm_head.add_module("connector", connector)
        model.lm_head.add_module("head", AutoModelForCausalLM.from_pretrained("base").lm_head)
        return model

    trained = train(with_connector(), LoraConfig(r=4, target_modules=["q_proj", "connector"]))

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")  # has no module called connector
    model = PeftModel.from_pretrained(base, "adapter")  # says nothing
    as_trained(model)  # -> False
    set_peft_model_state_dict(model, load_file("adapter/adapter_model.safetensors")).unexpected_keys
    # -> ['base_model.model.lm_head.connector.lora_A.weight', 'base_model.model.lm_head.connector.lora_B.weight']

Fixed:
    base = with_connector()  # the model of the training
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
    set_peft_model_state_dict(model, load_file("adapter/adapter_model.safetensors")).unexpected_keys  # -> []
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes import anatomy, evidence, remainder
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.lost import names_of
from adapterfit.causes.told import in_words
from adapterfit.edits import Drop
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion, TensorInfo
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=15,
    messages=("(nothing: PEFT does not report unexpected keys)",),
    needs=("config", "diff"),
)


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """Second copies as a note, and the rest."""
    if not (diff.extra or diff.redundant) or not evidence.comparable(diff) or evidence.no_target(diff):
        return
    fixed = [tensor for tensor in diff.redundant if tensor.name.endswith(".boft_P")]
    if fixed:
        yield finding(
            f"{evidence.count(len(fixed), 'tensor')} are BOFT's permutations, which PEFT 0.11 and 0.12 saved along: the loader makes "
            "them itself, and drops these",
            at=fixed,
            severity="note",
            predicted="none",
        )
    copies = [tensor for tensor in diff.redundant if tensor not in fixed]
    if copies:
        yield finding(
            f'{evidence.count(len(copies), "tensor")} of a saved module lie in the file twice, as bias="all" writes them; '
            "the second copy is dropped, the first is loaded",
            at=copies,
            severity="note",
            predicted="none",
        )
    masks = [tensor for tensor in diff.extra if _is_mask(tensor)]
    if masks:
        yield finding(
            f"{evidence.count(len(masks), 'tensor')} are attention masks that old transformers kept as buffers and "
            'bias="all" saved along; nothing needs them',
            at=masks,
            severity="warning",
            predicted="none",
            fix=_left_out(masks),
        )
    known = remainder.explained(case, diff)
    known |= {tensor.name for tensor in (*copies, *masks)}
    rest = [tensor for tensor in diff.extra if tensor.name not in known]
    if rest:
        yield _dropped(case, diff, rest)


def _left_out(tensors: list[TensorInfo]) -> Fix:
    """What no loader reads changes nothing by not being there."""
    edits = tuple(Drop(tensor.name) for tensor in tensors)
    return Fix("safe", f"leave {evidence.count(len(tensors), 'tensor')} out: the loader passes over them", edits)


def _is_mask(tensor: TensorInfo) -> bool:
    """`attn.bias` (1, 1, n, n) and `attn.masked_bias` of GPT-2, GPT-Neo and GPT-J before transformers 4.31."""
    if tensor.name.endswith(".masked_bias"):
        return tensor.shape in ((), (1,))
    square = len(tensor.shape) == 4 and tensor.shape[:2] == (1, 1) and tensor.shape[2] == tensor.shape[3]
    return tensor.name.endswith((".attn.bias", ".attention.bias")) and square


def _dropped(case: Case, diff: Diff, rest: list[TensorInfo]) -> Finding:
    other = _other_adapter(diff, rest)
    if other:
        return finding(
            f"the file holds a second adapter, {quote(other)}: {evidence.count(len(rest), 'tensor')} of it are dropped, as PEFT loads "
            'one adapter from a folder, under the name "default"',
            at=rest,
            predicted="silent",
            found=quote(rest[0].name),
            fix=Fix(
                "unsafe",
                f"if {quote(other)} is meant too, save it by itself: model.save_pretrained(folder) writes each adapter into a folder of "
                "its own; else leave its tensors out",
            ),
        )
    return finding(
        f"{len(rest)} of {len(case.adapter.tensors)} tensors reach no parameter and are dropped: "
        f"{remainder.grouped((tensor.name, tensor.shape) for tensor in rest)}{_why(diff, rest)}",
        at=rest,
        predicted="silent",
        found=quote(rest[0].name),
        expected=_nearest(diff, rest[0]),
        fix=Fix("unsafe", "load the base and the versions of the training, or rename the keys to those of the model"),
    )


def _other_adapter(diff: Diff, rest: list[TensorInfo]) -> str:
    """The name of another adapter, where every tensor left over is a known one with that name before its last part."""
    keys = frozenset(slot.key for slot in diff.expectation.slots)
    names = set()
    for tensor in rest:
        head, _, leaf = tensor.name.rpartition(".")
        stem, _, name = head.rpartition(".")
        if f"{stem}.{leaf}" not in keys and stem not in keys:
            return ""
        names.add(name)
    return names.pop() if len(names) == 1 and diff.matched else ""


def _why(diff: Diff, rest: list[TensorInfo]) -> str:
    """What the base has at these places, in half a sentence."""
    own, held = anatomy.modules(diff), anatomy.of_modules(rest)
    wrapped = frozenset(diff.expectation.targets)
    if held and all(module in wrapped for module in held):
        return "; their modules are wrapped, but have no such part with this config"
    if held and not any(module in own for module in held):
        return "; the base has no modules of these names"
    return ""


def _nearest(diff: Diff, tensor: TensorInfo) -> str:
    """A key that PEFT looks for and does not find, of the same kind."""
    leaf = evidence.parts(tensor.name).leaf
    same = [slot.key for slot in diff.missing if leaf and slot.key.endswith(f".{leaf}")]
    return quote(same[0]) if same else ""


def examples(make: Any) -> dict[str, list[Any]]:
    """Unknown modules and second copies; not what another cause explains."""
    plain = make.lora("llama")
    bias = make.lora("bert", target_modules=["query"], task_type="SEQ_CLS", bias="all")
    return {
        "silent": [
            plain,
            plain.on("llama", num_hidden_layers=1),
            plain.renamed(lambda name: "module." + name),
            plain.with_config(target_modules=["q_proj"]),
            plain.dropped(lambda name: "q_proj" in name),
        ],
        "fires": [
            plain.added({"base_model.model.model.layers.0.self_attn.z_proj.lora_A.weight": (4, 64)}),
            plain.renamed(lambda name: name.replace("q_proj", "submodule.q_proj")),
            bias.added({"base_model.model.classifier.modules_to_save.bias": (3,)}),
            make.lora("gpt2", target_modules=["c_attn"]).added(
                {"base_model.model.transformer.h.0.attn.bias": (1, 1, 128, 128)}
            ),
        ],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "strict=false", "silently ignored", "silently dropped", "silently skips", "discards", "ignores the result", "unexpected_keys",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: code that asks the loader not to be strict, and looks at nothing it returns."""
    yield from in_words(
        symptoms,
        "loader-drops-keys-silently",
        fix="look at unexpected_keys of what load_adapter and load_state_dict return: it must be empty",
    )
    found = names_of(symptoms, "loader-drops-keys-silently")
    if found is not None:
        yield suspect(
            symptoms,
            f"the loader passed over {found.keys[0].name} and said so only in what it returned",
            found.likelihood,
            found.lines,
            fix="look at unexpected_keys of what load_adapter and load_state_dict return: it must be empty",
            apart="the names in the file beside those of the model: adapterfit check ADAPTER --base BASE",
        )
    own = said(symptoms, "peft_model_state_dict, strict=false")  # PEFT's line, which it prints in every traceback
    told = said(symptoms, "strict=false") if not own and "load_module_strict" not in symptoms.folded else ()
    read = symptoms.missing or symptoms.unexpected or symptoms.misshapen or symptoms.errors or symptoms.warnings
    if told and not read:
        yield suspect(
            symptoms, "names that do not fit are dropped without a word where the load is not strict", 0.4, told,
            fix="print(model.load_state_dict(weights, strict=False).unexpected_keys): it must be empty",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """A load that is not strict, and nothing more."""
    return {
        "fires": ["model.load_state_dict(adapter_weights, strict=False)"],
        "silent": ["model.load_state_dict(weights)"],
    }
