"""Reports built by hand, for the tests of the faces."""

from adapterfit.records import (
    Adapter,
    AdapterConfig,
    Base,
    Case,
    Consumer,
    Counts,
    Diff,
    Expectation,
    Finding,
    Fix,
    ModuleTree,
    NotChecked,
    Raised,
    Report,
    TensorInfo,
    Weights,
)

KEY = "base_model.model.model.layers.{}.self_attn.q_proj.lora_A.weight"
KEYS = (KEY.format(0), KEY.format(1))


def adapter(label="my-adapter", names=KEYS, peft_type="LORA"):
    """An adapter of these tensors, each (8, 16)."""
    tensors = tuple(TensorInfo(name, "F32", (8, 16)) for name in names)
    return Adapter(
        label=label,
        config=AdapterConfig("adapter_config.json", {}, {}, peft_type, known=True),
        weights=Weights("adapter_model.safetensors", "safetensors", 1024, tensors),
    )


def base(label="./base"):
    """A llama, known by its config alone."""
    return Base(label=label, config={"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, complete=True)


def diff():
    """A comparison against LlamaForCausalLM that found nothing."""
    tree = ModuleTree("LlamaForCausalLM", "llama", (), "facts")
    return Diff(Expectation(tree, "PeftModelForCausalLM", {}))


def finding(cause="wrapper-prefix", **changes):
    """A silent error with a safe fix."""
    values = {
        "severity": "error",
        "message": 'keys start with "module."',
        "predicted": "silent",
        "at": tuple(KEY.format(n) for n in range(5)),
        "expected": "keys that start with base_model.model.",
        "found": "keys that start with module.",
        "fix": Fix("safe", "rename 5 keys"),
    }
    return Finding(id=cause, **{**values, **changes})


def report(verdict="does-not-fit", predicted="loads-without-effect", findings=None, **changes):
    """A report with one silent finding."""
    values = {
        "case": Case(adapter(), base(), Consumer("0.21.2", "5.23.0")),
        "findings": (finding(),) if findings is None else tuple(findings),
        "counts": Counts(0, 2, 2, 0),
        "diff": diff(),
        "next_step": "adapterfit explain wrapper-prefix",
    }
    return Report(verdict=verdict, predicted=predicted, **{**values, **changes})


def fits():
    """A report without findings."""
    return report("fits", "loads", (), counts=Counts(2), next_step="")


def without_base():
    """A report of an adapter alone."""
    case = Case(adapter(), None, Consumer())
    missing = (NotChecked("whether it fits", "no base was given"),)
    return report("cannot-tell", "cannot-tell", (), case=case, diff=None, not_checked=missing, counts=Counts())


def unreadable():
    """A report of an adapter whose weights and config were refused."""
    damaged = finding("damaged-weights-file", code="truncated-file", predicted="raises", fix=None, at=(), found="")
    case = Case(Adapter("broken", layout="other"), base(), Consumer("0.21.2"))
    raised = Raised("SafetensorError", "Error while deserializing header: invalid header length")
    return report("does-not-fit", "raises", (damaged,), case=case, diff=None, raised=raised)


def crowded():
    """More findings, names and gaps than a report shows."""
    names = tuple(KEY.format(n) for n in range(5_000))
    many = (finding(f"cause-{n}", at=names, predicted=("silent", "raises", "warns", "none")[n % 4]) for n in range(300))
    gaps = tuple(NotChecked(f"question {n}", "no time") for n in range(300))
    return report(findings=many, not_checked=gaps)


ALL = {
    "a fit": fits,
    "a silent failure": report,
    "no base": without_base,
    "an unreadable adapter": unreadable,
    "more than fits on a screen": crowded,
}
