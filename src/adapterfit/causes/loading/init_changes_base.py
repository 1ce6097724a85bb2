"""The adapter's initialization changes the base.

What this means: `init_lora_weights` is `pissa`, `olora`, `corda`, `loftq` or `lora_ga`, or KaSA is on. In training such an
adapter does not sit on the base as published but on a residual of it. PEFT recomputes the residual when it loads; whoever
does not (a server, llama.cpp, an older PEFT, a base of another precision) gets another model, without an error.

Why it happens: the adapter was saved as it is, not converted to a plain LoRA.

Detection: the config says so. PiSSA, OLoRA and KaSA are repeated with the same result on the same base in the same precision
(measured: equal logits). `pissa_niter_…` draws random numbers: measured, three quarters of the adapter's effect were lost on
a small random base, less where the singular values fall off. LoRA-GA is not repeated, CorDA needs data and raises.

Fix: convert to a plain LoRA with the training's own PEFT: `save_pretrained(path, path_initial_model_for_weight_conversion=
"initial-adapter")`, which doubles the rank.

Workaround: load in PEFT on exactly the base and dtype of the training, merge, and save the merged model.

Prevention: save the untrained adapter too, and convert when saving.

Setup:
    options = LoraConfig(**OPTIONS, init_lora_weights="pissa")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), options)
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained("initial")  # before the training
    model.peft_config["default"].init_lora_weights = "pissa"
    trained = logits(noise(model))

Broken:
    model.save_pretrained("adapter")
    change_config(init_lora_weights=True)  # a loader that does not know PiSSA: a server, llama.cpp
    base = AutoModelForCausalLM.from_pretrained("base")
    as_trained(PeftModel.from_pretrained(base, "adapter"))  # -> False

Fixed:
    model.save_pretrained("adapter", path_initial_model_for_weight_conversion="initial")
    # warns: PiSSA changes the base weights of the model and should thus not be used with other adapters.
    base = AutoModelForCausalLM.from_pretrained("base")
    as_trained(PeftModel.from_pretrained(base, "adapter"))  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.dates import written_before
from adapterfit.causes.heard import said, suspect
from adapterfit.edits import SetConfig
from adapterfit.records import Case, Finding, Fix, Suspicion
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    severity="warning",
    level="advanced",
    minutes=10,
    messages=("(none: the load reports nothing)",),
    needs=("config",),
)
#: Initializations PEFT repeats when it loads; the result is the training's on the same base in the same precision.
_REPEATED = ("pissa", "olora")
_CURE = Fix("unsafe", 'save with path_initial_model_for_weight_conversion="…" from the training to get a plain LoRA')


def check(case: Case, _diff: object) -> Iterator[Finding]:
    """A note where PEFT repeats the change; an error where it cannot, or does and was not meant to."""
    config = case.adapter.config
    values = config.values if config is not None else {}
    given = values.get("init_lora_weights")
    heard = (
        config is not None and config.peft_type != "ADALORA"
    )  # which starts in its own way whatever is written there
    init = given.lower() if isinstance(given, str) and heard else ""
    if case.consumer.rules.get("lora-inits") == ["*"]:
        if init.startswith((*_REPEATED, "corda", "loftq", "lora_ga")) and not written_before(case, "0.7.0"):
            yield _never_done(init, case.consumer.peft)
    elif init.startswith(_REPEATED) and written_before(case, "0.7.0"):
        yield _never_meant(init)
    elif init.startswith("pissa_niter"):
        yield _wrong(init, "draws random numbers to change the base, and other ones again when PEFT loads it")
    elif init == "lora_ga":
        yield _wrong(
            init, "changed the base by gradients that are not there when PEFT loads it, so it leaves the base alone"
        )
    elif init.startswith("corda"):
        yield _raises(init, "PEFT repeats the change when it loads, and the data for it is not in the file")
    elif init.startswith((*_REPEATED, "loftq")):
        yield _note(f"init_lora_weights is {quote(init)}")
    if values.get("kasa_config") is not None:
        yield _note("kasa_config is set")


def _note(why: str) -> Finding:
    return finding(
        f"{why}: the adapter belongs to a changed base. PEFT repeats the change when it loads; the base and its precision "
        "must be the training's, and engines that do not repeat it get another model",
        severity="note",
        predicted="none",
        fix=_CURE,
    )


def _wrong(init: str, what: str) -> Finding:
    return finding(
        f"init_lora_weights is {quote(init)}: it {what}; the model is not the one that was trained",
        expected="a plain LoRA, or the base as it was left in training",
        found=f"init_lora_weights: {quote(init)}",
        fix=_CURE,
        differs=True,
    )


def _raises(init: str, why: str) -> Finding:
    return finding(
        f"init_lora_weights is {quote(init)}: {why}; loading raises",
        predicted="raises",
        expected="a plain LoRA",
        found=f"init_lora_weights: {quote(init)}",
        fix=_CURE,
        code="init-needs-data",
    )


def _never_done(init: str, peft: str) -> Finding:
    """The loader is the one that takes any text for true."""
    return finding(
        f"init_lora_weights is {quote(init)}: the adapter belongs to a changed base, and PEFT {peft} takes any text for true "
        "and leaves the base alone",
        expected="the base changed as in training",
        found=f"init_lora_weights: {quote(init)}",
        fix=Fix("unsafe", "pip install 'peft>=0.12'"),
        differs=True,
    )


def _never_meant(init: str) -> Finding:
    """Up to 0.6 the field was a switch: any text meant true, and the base was left alone."""
    return finding(
        f"init_lora_weights is {quote(init)}, which the PEFT of the training (before 0.7) took for true; PEFT now changes the "
        "base for it",
        expected="init_lora_weights: true",
        found=f"init_lora_weights: {quote(init)}",
        fix=Fix(
            "safe", "set init_lora_weights to true, as it was read in training", (SetConfig("init_lora_weights", True),)
        ),
        differs=True,
    )


def examples(make: Any) -> dict[str, list[Any]]:
    """The initializations that change the base, and those that do not."""
    plain = make.lora("llama")
    changing = ("pissa", "pissa_niter_4", "olora", "lora_ga", "corda", "loftq")
    old: dict[str, Any] = {
        "auto_mapping": None, "bias": "none", "fan_in_fan_out": False, "layers_pattern": None, "layers_to_transform": None,
        "lora_dropout": 0.0, "modules_to_save": None, "revision": None, "rank_pattern": {}, "alpha_pattern": {},
    }  # fmt: skip
    return {
        "fires": [plain.with_config(init_lora_weights=name) for name in changing]
        + [make.lora("llama", kasa_config={}), make.lora("llama", **old).with_config(init_lora_weights="pissa")],
        "silent": [
            plain,
            *(plain.with_config(init_lora_weights=name) for name in ("gaussian", "eva", "orthogonal", True)),
            *(
                make.adapter(
                    "llama", peft_type="ADALORA", init_r=3, total_step=9, target_modules=["q_proj"]
                ).with_config(init_lora_weights=name)
                for name in ("corda", "pissa")
            ),
        ],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "pissa", "olora", "corda", "loftq",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: an initialisation that takes its part out of the base's weights."""
    fix = "save with path_initial_model_for_weight_conversion: it makes a plain LoRA of it"
    told = said(
        symptoms,
        "changes the base weights of the model",
        "modify the base model weights",
        "init_lora_weights='pissa",
        'init_lora_weights="pissa',
    )
    if told:
        refused = said(symptoms, "vllm does not support")
        yield suspect(
            symptoms, "the adapter's initialisation changed the base's weights", 0.6 if refused else 0.85, told, fix=fix
        )
    named = said(
        symptoms,
        *(f"{name}{end}" for name in ("pissa", "olora", "corda", "loftq") for end in (" ", "'", '"', ",", ".", "-")),
    )
    if named and not told and not said(symptoms, "unknown initialization"):
        yield suspect(
            symptoms,
            "PiSSA, OLoRA, CorDA and LoftQ change the base's weights when the adapter is put in",
            0.45,
            named,
            fix=fix,
        )


def logs() -> dict[str, list[str]]:
    """PEFT's warning; a plain one."""
    return {
        "fires": [
            "UserWarning: CorDA changes the base weights of the model and should thus not be used with other adapters."
        ],
        "silent": ["init_lora_weights=True"],
    }
