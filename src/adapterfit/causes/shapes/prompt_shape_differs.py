"""The prompt has another shape than this base or this config wants.

What this means: prompt tuning, p-tuning and prefix tuning save one tensor, `prompt_embeddings`: as many rows as there are virtual
tokens, and as many columns as the base is wide (prefix tuning: keys and values of all layers in a row). Where the config
or the base says otherwise, loading stops with a size mismatch, or the first forward pass does.

Why it happens: num_virtual_tokens was edited; the base has another width, depth or number of key/value heads; or a prefix of
PEFT <= 0.11, which took the whole hidden size for keys and values, meets a grouped-query base.

Detection: rows and columns of the tensor, divided into tokens, layers and width, against config and base.

Fix: set num_virtual_tokens to what the tensor holds; for another width or depth, load the base of the training.

Workaround: none: a prompt cannot be moved to a base of another width.

Prevention: keep adapter_config.json and weights of one run together.

Setup:
    options = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=8)
    trained = train(AutoModelForCausalLM.from_pretrained("base"), options)
    change_config(num_virtual_tokens=20)

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises RuntimeError: size mismatch for weight: copying a param with shape torch.Size([8, 32]) from checkpoint, the shape in current model is torch.Size([20, 32]).

Fixed:
    change_config(num_virtual_tokens=8)  # the rows of prompt_embeddings
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import line_of, said, suspect
from adapterfit.causes.lost import names_of
from adapterfit.causes.sizes import sizes_of
from adapterfit.edits import SetConfig
from adapterfit.records import Case, Diff, Finding, Fix, Misshape, Shape, Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import LogShape, Symptoms

CAUSE = Cause(
    minutes=3,
    messages=(
        "Error(s) in loading state_dict for Embedding: size mismatch for weight: copying a param with shape ...",
        "RuntimeError: Sizes of tensors must match except in dimension 1. Expected size 4096 but got size 2048",
        "IndexError: list index out of range",
    ),
    needs=("config", "diff"),
)
#: Words of a text that speaks of a prompt or a prefix, not of images or batches.
_PROMPTS = (
    "prefix_tuning",
    "prefix tuning",
    "prefix_key",
    "prefix_proj",
    "prompt_tuning",
    "prompt tuning",
    "prompt_embeddings",
    "virtual_tokens",
)
_FIX = (
    "set num_virtual_tokens, num_layers, token_dim and num_attention_heads to the values of the training, on its base"
)
_WIDTH = ("hidden_size", "n_embd", "d_model")
_DEPTH = ("num_hidden_layers", "num_layers", "n_layer")


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding: the tensor does not fit its slot, or it does and the base is of another width or depth."""
    config = case.adapter.config
    wrong = next((entry for entry in diff.misshapen if entry.key == "prompt_embeddings" and 0 not in entry.found), None)
    if config is None or diff.expectation.doubts:
        return
    if wrong is not None:
        yield _mismatch(diff, wrong)
    elif any(match.slot.role == "prompt" for match in diff.matched):
        yield from _other_base(diff)


def _mismatch(diff: Diff, wrong: Misshape) -> Finding:
    """Rows and columns, each with what they say."""
    said = []
    (rows, columns), (own_rows, own_columns) = _two(wrong.found), _two(wrong.wanted)
    if rows != own_rows:
        said.append(f"{rows} rows where the config's num_virtual_tokens makes {own_rows}")
    if columns != own_columns:
        said.append(f"{columns:,} columns where {own_columns:,} are wanted{_columns(diff, columns)}")
    return finding(
        f"prompt_embeddings has {' and '.join(said) or f'shape {list(wrong.found)}, not {list(wrong.wanted)}'}",
        at=[wrong.tensor],
        predicted="raises",
        found=str(list(wrong.found)),
        expected=str(list(wrong.wanted)),
        fix=_fix(diff, wrong),
    )


def _two(shape: Shape) -> tuple[int, int]:
    return (shape[0], shape[1]) if len(shape) == 2 else (0, 0)


def _columns(diff: Diff, columns: int) -> str:
    """A prefix's columns as layers, keys and values, and width."""
    base, config = _text(diff), diff.expectation.config
    if config.get("peft_type") != "PREFIX_TUNING":
        return ": the width of another base"
    layers = _first(base, _DEPTH)
    heads, all_heads = base.get("num_key_value_heads"), base.get("num_attention_heads")
    if not layers or columns % (2 * layers):
        return f" (2 x layers x width): a base of another depth than {layers}"
    width = columns // (2 * layers)
    if _first(base, _WIDTH) == width and heads != all_heads:
        return f": PEFT <= 0.11 took the hidden size, {width:,}, for keys and values, which this base has fewer of"
    return f": with {layers} layers that is a width of {width:,} for keys and values, or another depth"


def _fix(diff: Diff, wrong: Misshape) -> Fix:
    """Rows alone can be mended in the config: every row is a token."""
    (rows, columns), (own_rows, own_columns) = _two(wrong.found), _two(wrong.wanted)
    tokens = diff.expectation.config.get("num_virtual_tokens")
    if columns == own_columns and isinstance(tokens, int) and tokens and own_rows % tokens == 0:
        each = own_rows // tokens
        if rows and rows % each == 0:
            edit = SetConfig("num_virtual_tokens", rows // each)
            return Fix("safe", f"set num_virtual_tokens = {rows // each}, as the tensor holds", (edit,))
    return Fix("unsafe", "load the base of the training; a prompt cannot be moved to another one")


def _other_base(diff: Diff) -> Iterator[Finding]:
    """The config says the sizes, so the tensor lands; the base is not asked before the first forward pass."""
    config, base = diff.expectation.config, _text(diff)
    prefix = config.get("peft_type") in ("PREFIX_TUNING", "CARTRIDGE")  # keys and values of every layer
    field, names = ("num_layers", _DEPTH) if prefix else ("token_dim", _WIDTH)
    made, own = config.get(field), _first(base, names)
    if not isinstance(made, int) or own is None or made == own or config.get("task_type") == "SEQ_2_SEQ_LM":
        return
    if prefix and made > own:
        return  # superfluous layers of the cache are never read
    what = f"{made} layers" if prefix else f"a width of {made:,}"
    yield finding(
        f"the prompt was made for {what}, this base has {own:,}: it loads, and the first forward pass raises",
        at=["prompt_embeddings"],
        predicted="silent",
        found=f"{field} = {made}",
        expected=f"{field} = {own}",
        fix=Fix("unsafe", "load the base of the training; a prompt cannot be moved to another one"),
        differs=True,
    )


def _text(diff: Diff) -> Mapping[str, Any]:
    base = diff.expectation.tree.config
    text = base.get("text_config")
    return text if isinstance(text, Mapping) else base


def _first(base: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((base[name] for name in names if isinstance(base.get(name), int)), None)


def examples(make: Any) -> dict[str, list[Any]]:
    """Other tokens, width, depth and heads, with and without sizes in the config."""
    prompt = make.adapter("llama", peft_type="PROMPT_TUNING", num_virtual_tokens=8)
    prefix = make.adapter("llama", peft_type="PREFIX_TUNING", num_virtual_tokens=8)
    sized = {"num_layers": 2, "token_dim": 64, "num_attention_heads": 4}
    return {
        "silent": [
            make.adapter("llama", peft_type="CARTRIDGE", num_virtual_tokens=3),
            prompt,
            prefix,
            prompt.on("llama", num_hidden_layers=5),
            prompt.with_config(**sized),
            prompt.renamed(lambda _name: "prompt"),
            make.adapter("t5", peft_type="PREFIX_TUNING", num_virtual_tokens=8, task_type="SEQ_2_SEQ_LM"),
        ],
        "fires": [
            prompt.with_config(num_virtual_tokens=20),
            make.adapter("t5", peft_type="PROMPT_TUNING", num_virtual_tokens=4, task_type="SEQ_2_SEQ_LM").with_config(
                num_virtual_tokens=6
            ),
            prompt.on("llama", hidden_size=128),
            prompt.with_config(**sized).on("llama", hidden_size=128),
            prefix.on("llama", num_hidden_layers=3),
            prefix.with_config(**sized).on("llama", num_hidden_layers=3),
            prefix.on("llama", num_key_value_heads=4),
            make.adapter("llama", peft_type="PREFIX_TUNING", num_virtual_tokens=8).reshaped(
                lambda _name: True, lambda _shape: (8, 256)
            ),
        ],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "prompt_encoder", "prefix tuning", "num_virtual_tokens", "prompt tuning",
)  # fmt: skip

#: Functions in which a traceback points here: library and name → how likely it is.
STOPS = {("peft", "_setup_prompt_encoder"): 0.5, ("peft", "get_prompt"): 0.5}

#: A difference of lengths, and the number of the prompt's tokens, which it may be.
_COUNTED = re.compile(r"size of tensor a \((\d{1,6})\) must match the size of tensor b \((\d{1,6})\)")
_TOKENS = re.compile(r"(?:num_virtual_tokens|pre_seq_len)['\"]? ?[=:] ?(\d{1,5})")


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: the prompt's own embedding."""
    found = sizes_of(symptoms, "prompt-shape-differs")
    if found is not None:
        what, fix = _sizes(found.shapes[0])
        yield suspect(symptoms, what, found.likelihood, found.lines, fix=fix)
    named = names_of(symptoms, "prompt-shape-differs") if found is None else None
    if named is not None:
        yield suspect(
            symptoms, "the prompt's encoder has other parts in the file than the config makes: with a projection, or without one", named.likelihood, named.lines,
            fix="take prefix_projection (for ChatGLM also pre_seq_len) from the run that wrote the file", apart="the names in the file: trans.0.weight means a projection",
        )  # fmt: skip
    invalid = said(symptoms, "invalid `prompt_embeddings` shape. expected (")
    if invalid:
        yield suspect(
            symptoms,
            "the prompt in the file has another size than the config and the base make it",
            0.88,
            invalid,
            fix=_FIX,
        )
    counted = _COUNTED.search(symptoms.text) if found is None else None
    tokens = _TOKENS.search(symptoms.text)
    if counted is not None and tokens is not None and abs(int(counted[1]) - int(counted[2])) == int(tokens[1]):
        yield suspect(
            symptoms, f"one side counts the prompt's {int(tokens[1])} tokens, the other does not: {counted[1]} and {counted[2]}", 0.65,
            [line_of(symptoms, counted.start())], fix="align peft and transformers (their caches changed together); adapterfit check --for with both versions",
            apart="whether an adapter made now with this config runs a forward pass: if not, it is not the file",
        )  # fmt: skip
    joined = said(symptoms, "sizes of tensors must match except in dimension") if found is None else ()
    if joined and any(word in symptoms.folded for word in _PROMPTS):
        yield suspect(
            symptoms, "the prompt is put before tensors of another width or of other heads: its config and the base disagree", 0.65, joined,
            fix=_FIX, apart="num_attention_heads, num_key_value_heads and hidden_size of the base beside adapter_config.json",
        )  # fmt: skip


def _sizes(shape: LogShape) -> tuple[str, str]:
    """What the two shapes of a prompt's embedding tell, (tokens, width) each, and the cure in their numbers."""
    plain = "the prompt in the file has another size than the config and the base make it", _FIX
    if shape.found is None or shape.wanted is None or len(shape.found) != 2 or len(shape.wanted) != 2:
        return plain
    (tokens, width), (now, wide) = shape.found, shape.wanted
    if width == wide:
        return (
            f"the prompt in the file has {tokens:,} tokens, the config that was used asks for {now:,}",
            f"set num_virtual_tokens (for ChatGLM pre_seq_len) to {tokens}",
        )
    if tokens == now:
        return (
            f"the prompt in the file is {width:,} wide, the base and the config make it {wide:,}: another base, or with a projection on one side only",
            f"load the base of the training, and take token_dim, num_layers and prefix_projection from its run (the file is {width} wide)",
        )
    return plain


def logs() -> dict[str, list[str]]:
    """A prompt of another length; an embedding of a vocabulary."""
    line = "size mismatch for {}: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    return {
        "fires": [
            "RuntimeError: Error(s) in loading state_dict for Embedding: "
            + line.format("weight", "20, 2048", "10, 2048"),
            "config = PrefixTuningConfig(num_virtual_tokens=12)\nRuntimeError: The size of tensor a (52) must match the size of tensor b (64) at non-singleton dimension 3",
            'File "/x/peft/tuners/prefix_tuning/model.py", line 70, in forward RuntimeError: Sizes of tensors must match except in dimension 2. Expected size 8 but got size 32 for tensor number 1 in the list.',
        ],
        "silent": [
            line.format("base_model.model.lm_head.weight", "32001, 768", "32000, 768"),
            'Traceback (most recent call last):\n  File "run.py", line 3, in <module>\n    cat(parts)\nRuntimeError: Sizes of tensors must match except in dimension 1. Expected size 64 but got size 63 for tensor number 1 in the list.',
        ],
    }
