"""Provenance: what is followed through imports, names, functions, classes and branches - and where following ends."""

from __future__ import annotations

import pytest

pytest.importorskip("libcst", reason="libcst is not installed: pip install adapterfit[lint]")

from adapterfit import limits
from adapterfit.errors import CannotCheck
from adapterfit.lint import engine
from adapterfit.lint.rule import Code

HEAD = """
import os, sys, torch, transformers, peft
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained("base")
"""
#: A line that `adapter-into-bare-base` fires on, if `model` is a bare base and `path` an adapter's file.
LOAD = "model.load_state_dict(torch.load(path, weights_only=True), strict=False)"


def fires(body, head=HEAD):
    return [finding.rule for finding in engine.findings(head + body)]


BARE = {
    "a chain of methods that give the model back": 'model = base.to("cuda").eval().half()',
    "an alias": "other = base; model = other",
    "a tuple": "model, nothing = base, None",
    "a starred tuple's plain part": "pair = (base, 1); model = pair[0]",
    "both branches": 'if sys.argv:\n    model = AutoModelForCausalLM.from_pretrained("a")\nelse:\n    model = AutoModelForCausalLM.from_pretrained("b")',
    "None first": "model = None\nif sys.argv:\n    model = base",
    "a conditional expression": "model = base if sys.argv else base",
    "an assignment expression": "if (model := base): pass",
    "a function of the file": "def get():\n    return base\nmodel = get()",
    "a lambda": 'get = lambda: AutoModelForCausalLM.from_pretrained("x")\nmodel = get()',
    "a keyword argument": "def same(x, *, y):\n    return y\nmodel = same(1, y=base)",
    "a dict": 'parts = {"net": base}\nmodel = parts["net"]',
    "an attribute": "class C: pass\nc = C()\nc.net = base\nmodel = c.net",
    "a model class of its own": 'model = transformers.models.llama.modeling_llama.LlamaForCausalLM.from_pretrained("x")',
    "from_config": "model = AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained('x'))",
    "a try with a fallback": "try:\n    model = base.cuda()\nexcept RuntimeError:\n    model = base.cpu()",
    "what is merged": 'model = PeftModel.from_pretrained(base, "x").merge_and_unload()',
    "quantised training": "model = peft.prepare_model_for_kbit_training(base)",
    "a with block": "with torch.no_grad():\n    model = base",
    "a function on one line": "def get(): return base\nmodel = get()",
    "a branch on one line that ends": "def get(x):\n    if x: return base\n    return base\nmodel = get(1)",
    "statements behind a colon": "model = None\nif sys.argv: other = 1; model = base",
    "a loop on one line": "model = base\nfor _ in sys.argv: print(_)",
}
UNKNOWN = {
    "one branch only": 'if sys.argv:\n    model = PeftModel.from_pretrained(base, "x")\nelse:\n    model = base',
    "a parameter": "def run(model, path='x/adapter_model.bin'):\n    return 1",
    "a name bound again": "model = base\nmodel = open('x')",
    "a loop's variable": "for model in [base]:\n    pass",
    "a deleted name": "model = base\ndel model",
    "augmented assignment": "model = base\nmodel += 1",
    "a shadowed class": "class AutoModelForCausalLM:\n    pass\nmodel = AutoModelForCausalLM()",
    "a generator": "def get():\n    yield base\nmodel = get()",
    "a coroutine": "async def get():\n    return base\nmodel = get()",
    "an unpacking of unknown length": "model, *rest = sys.argv",
    "a wrapper of somebody else": "model = sys.argv[0](base)",
    "a comprehension": "model = [m for m in [base]]",
    "a branch on one line": "model = base\nif sys.argv: model = PeftModel.from_pretrained(base, 'x')",
    "a loop on one line that binds it": "model = base\nwhile sys.argv: model = sys.argv.pop()",
    "a class on one line": "class AutoModelForCausalLM: from_pretrained = print\nmodel = AutoModelForCausalLM.from_pretrained('x')",
    "a name that a function declares global": "model = base\ndef wrap():\n    global model\n    model = sys.argv[0](model)\nwrap()",
    "a branch that is never taken": "model = base\nif not hasattr(model, 'generate'):\n    pass\nif isinstance(model, PeftModel):\n    pass\nelse:\n    model = sys.argv",
    "a match": "match sys.argv:\n    case [model]:\n        pass\n    case _:\n        model = base",
}


@pytest.mark.parametrize("body", BARE.values(), ids=list(BARE))
def test_a_base_is_known_through(body):
    assert fires(f'{body}\npath = "x/adapter_model.bin"\n{LOAD}\n') == ["adapter-into-bare-base"]


@pytest.mark.parametrize("body", UNKNOWN.values(), ids=list(UNKNOWN))
def test_nothing_is_known_after(body):
    assert fires(f'{body}\npath = "x/adapter_model.bin"\n{LOAD}\n') == []


PATHS = {
    "a literal": '"out/adapter_model.safetensors"',
    "concatenation": 'sys.argv[1] + "/adapter_model.bin"',
    "an f-string": 'f"{sys.argv[1]}/adapter_model.bin"',
    "os.path.join": 'os.path.join(sys.argv[1], "x", "adapter_model.bin")',
    "pathlib": '__import__("pathlib").Path(sys.argv[1]) / "adapter_model.bin"',
    "PEFT's constant": "os.path.join(sys.argv[1], peft.utils.WEIGHTS_NAME)",
    "neighbouring strings": '"out/" "adapter_model.bin"',
    "a numbered copy": '"adapter_model (5).bin"',
}
OTHER_PATHS = {
    "transformers' constant": "os.path.join(sys.argv[1], transformers.utils.WEIGHTS_NAME)",
    "a whole model": '"pytorch_model.bin"',
    "something else at the end": '"adapter_model.bin" + sys.argv[1]',
    "a folder of that name": '"adapter_model/weights.pt"',
    "a name that only ends like it": '"my_adapter_models.bin"',
    "an unknown format": 'f"{sys.argv[1]!r}adapter_model.txt"',
    "unknown": "sys.argv[1]",
}


@pytest.mark.parametrize("path", PATHS.values(), ids=list(PATHS))
def test_an_adapters_file_is_known_by(path):
    assert fires(f"model = base\npath = {path}\n{LOAD}\n") == ["adapter-into-bare-base"]


@pytest.mark.parametrize("path", OTHER_PATHS.values(), ids=list(OTHER_PATHS))
def test_no_adapters_file_is(path):
    assert fires(f"model = base\npath = {path}\n{LOAD}\n") == []


@pytest.mark.parametrize(
    "imports",
    [
        "import peft as p\nwrap, Config = p.get_peft_model, p.LoraConfig",
        "from peft import get_peft_model as wrap, LoraConfig as Config",
        "from peft.mapping import get_peft_model as wrap\nfrom peft.tuners.lora.config import LoraConfig as Config",
        "try:\n    from peft import get_peft_model as wrap, LoraConfig as Config\nexcept ImportError:\n    wrap = Config = None",
        "from peft import *\nwrap, Config = get_peft_model, LoraConfig",
        "def f():\n    pass\nif f:\n    import peft\nelse:\n    import peft\nwrap, Config = peft.get_peft_model, peft.LoraConfig",
    ],
)
def test_a_name_is_followed_to_its_library(imports):
    code = f"from transformers import AutoModel\n{imports}\nm = wrap(AutoModel.from_pretrained('x'), Config())\nwrap(m, Config())\n"
    assert fires(code, head="") == ["wrapped-twice"]


@pytest.mark.parametrize(
    "imports",
    [
        "from . import get_peft_model as wrap, LoraConfig as Config",
        "from .peft import get_peft_model as wrap, LoraConfig as Config",
        "import torch\nfrom peftlike import get_peft_model as wrap, LoraConfig as Config",
        "from peft import LoraConfig as Config\ndef wrap(model, config): return model",
        "import peft\npeft = object()\nwrap, Config = peft.get_peft_model, peft.LoraConfig",
    ],
)
def test_a_name_of_something_else_is_not(imports):
    code = f"from transformers import AutoModel\n{imports}\nm = wrap(AutoModel.from_pretrained('x'), Config())\nwrap(m, Config())\n"
    assert fires(code, head="") == []


SAFE_OPEN = """
from safetensors import safe_open
with safe_open("out/adapter_model.safetensors", framework="pt") as file:
    state = {ENTRIES}
base.load_state_dict(state, strict=False)
"""
ENTRIES = {
    "{name: file.get_tensor(name) for name in file.keys()}": True,
    "{k: file.get_tensor(k) for k in file.keys() if 'q_proj' in k}": True,
    "{k.replace('base_model.model.', ''): file.get_tensor(k) for k in file.keys()}": False,
    "{k: file.get_tensor(k + '.weight') for k in file.keys()}": False,
    "{k: file.get_slice(k) for k in file.keys()}": False,
    "{k: sys.argv.get_tensor(k) for k in file.keys()}": False,
}


@pytest.mark.parametrize("entries", list(ENTRIES))
def test_what_safe_open_gives_back_tensor_by_tensor_is_the_file_if_no_name_changes(entries):
    assert bool(fires(SAFE_OPEN.replace("{ENTRIES}", entries))) is ENTRIES[entries]


ONE_LINE = {
    "if sys.argv: m.merge_and_unload(); m.save_pretrained('o')": "if sys.argv: m = m.merge_and_unload(); m.save_pretrained('o')",
    "def go(): m.load_adapter('b', 'b')": "",
    "if sys.argv: base.resize_token_embeddings(9)": "",
}


@pytest.mark.parametrize("line", list(ONE_LINE))
def test_a_fix_behind_a_colon_stays_on_its_line_or_is_left_to_the_author(line):
    code = f"{HEAD}m = PeftModel.from_pretrained(base, 'a')\n{line}\n"
    (finding,) = engine.findings(code)
    mended = engine.Document(code.encode(), is_notebook=False).edited(finding.fix.edits).raw if finding.fix else code
    assert mended.splitlines()[-1] == (ONE_LINE[line] or line)


TWO_CALLERS = """
def save(model, folder):
    torch.save(model.state_dict(), folder)

save(get_peft_model(base, LoraConfig()), "a")
"""


def test_a_function_is_looked_at_with_what_it_is_called_with():
    assert fires(TWO_CALLERS) == ["peft-state-dict-saved"]


def test_a_finding_in_a_function_has_to_hold_for_every_caller():
    assert fires(TWO_CALLERS + 'save(base, "b")\n') == []


def test_what_one_method_leaves_on_self_another_sees():
    body = """
class Run:
    def save(self):
        torch.save(self.model.state_dict(), "x.pt")

    def __init__(self):
        self.setup()

    def setup(self):
        self.model = get_peft_model(base, LoraConfig())

Run().save()
"""
    assert fires(body) == ["peft-state-dict-saved"]


def test_what_another_method_may_have_changed_is_not_known():
    body = """
class Run:
    def __init__(self):
        self.model = get_peft_model(base, LoraConfig())

    def merge(self):
        self.model = self.model.merge_and_unload()

    def save(self):
        torch.save(self.model.state_dict(), "x.pt")
"""
    assert fires(body) == []


def test_two_arms_of_a_branch_do_not_follow_one_another():
    body = """
model = PeftModel.from_pretrained(base, "a")
if sys.argv:
    merged = model.merge_and_unload()
else:
    model.save_pretrained("b")
"""
    assert fires(body) == []


def test_what_follows_a_return_is_the_other_arms():
    body = """
def run():
    model = PeftModel.from_pretrained(base, "a")
    if sys.argv:
        merged = model.merge_and_unload()
        return merged
    model.save_pretrained("b")
run()
"""
    assert fires(body) == []


def test_a_fix_that_would_differ_between_callers_is_not_offered():
    body = """
def load(model, weights):
    model.load_state_dict(weights, strict=False)

weights = torch.load("adapter_model.bin", weights_only=True)
load(get_peft_model(base, LoraConfig(), "one"), weights)
load(get_peft_model(AutoModelForCausalLM.from_pretrained("b"), LoraConfig(), "two"), weights)
"""
    (finding,) = engine.findings(HEAD + body)
    assert finding.rule == "adapter-into-peft-model"
    assert finding.fix is None


def test_calls_that_nest_without_end_are_given_up(monkeypatch):
    monkeypatch.setattr(limits, "LINT_STEPS", 5_000)
    doubling = "".join(f"def f{n}(x):\n    f{n + 1}(x)\n    f{n + 1}(x)\n" for n in range(40))
    with pytest.raises(CannotCheck, match="too complex"):
        Code(f"{HEAD}{doubling}\n" + "f0(base)\n" * 1_000)


def test_a_static_method_has_no_self():
    body = """
class Tools:
    @staticmethod
    def save(model, path):
        torch.save(model.state_dict(), path)

    def run(self):
        self.save(get_peft_model(base, LoraConfig()), "x.pt")
"""
    assert fires(body) == ["peft-state-dict-saved"]


UNREACHED = {
    "isinstance": "if not isinstance(model, PeftModel):",
    "one of several classes": "if not isinstance(model, (PeftModel, peft.PeftMixedModel)):",
    "hasattr": 'if not hasattr(model, "peft_config"):',
    "with and": "if sys.argv and not isinstance(model, PeftModel):",
    "else": "if isinstance(model, PeftModel):\n    pass\nelse:",
}


@pytest.mark.parametrize("test", UNREACHED.values(), ids=list(UNREACHED))
def test_nothing_is_found_in_a_branch_that_is_never_taken(test):
    wrap = "model = get_peft_model(model, LoraConfig())"
    assert fires(f"model = base\n{wrap}\n{test}\n    {wrap}\n") == []
    assert fires(f"model = base\n{wrap}\n{wrap}\n") == ["wrapped-twice"]


def test_a_function_that_calls_itself_ends():
    assert fires("def f(x):\n    return f(x)\nf(base)\ndef a():\n    b()\ndef b():\n    a()\n") == []


#: What → (code behind `HEAD`, the rules that fire).
FOLLOWED = {
    "a model that goes from one round of a loop into the next": (
        "model = base\nfor name in sys.argv:\n    model = PeftModel.from_pretrained(model, name)",
        ["loaded-into-wrapped"],
    ),
    "a loop in a function that is called twice": (
        "def every(model):\n    for name in ('a', 'b'):\n        model = PeftModel.from_pretrained(model, name)\n    return model\nevery(base)\nevery(AutoModelForCausalLM.from_pretrained('b'))",
        ["loaded-into-wrapped"],
    ),
    "a class attribute": (
        "class C:\n    FILE = 'x/adapter_model.bin'\n    def go(self):\n        base.load_state_dict(torch.load(self.FILE, weights_only=True), strict=False)",
        ["adapter-into-bare-base"],
    ),
    "what a class inherits": (
        "class A:\n    def __init__(self):\n        self.model = AutoModelForCausalLM.from_pretrained('b')\nclass B(A):\n    def go(self, path='adapter_model.bin'):\n        self.model.load_state_dict(torch.load(path, weights_only=True))",
        ["adapter-into-bare-base"],
    ),
    "a method that a class inherits": (
        "class A:\n    def get(self):\n        return AutoModelForCausalLM.from_pretrained('b')\nclass B(A):\n    pass\nB().get().load_state_dict(torch.load('adapter_model.bin', weights_only=True))",
        ["adapter-into-bare-base"],
    ),
    "setattr": (
        "m = get_peft_model(base, LoraConfig())\nsetattr(m, 'state_dict', lambda: peft.get_peft_model_state_dict(m))",
        ["state-dict-overridden"],
    ),
    "the outcome of loading in the model's place, as PEFT 0.2 gave it back": (
        "m = get_peft_model(base, LoraConfig())\nm = peft.set_peft_model_state_dict(m, torch.load(sys.argv[1]))\nm = get_peft_model(m, LoraConfig())",
        ["wrapped-twice"],
    ),
    "get_base_model": (
        "m = PeftModel.from_pretrained(base, 'a')\nm.get_base_model().resize_token_embeddings(9)",
        ["resized-after-loading"],
    ),
    "base_model": (
        "m = PeftModel.from_pretrained(base, 'a')\nm.base_model.resize_token_embeddings(9)",
        ["resized-after-loading"],
    ),
    "a Trainer's arguments by their places": (
        "args = transformers.TrainingArguments('o', deepspeed={'zero_optimization': {'stage': 3}})\nm = get_peft_model(base, LoraConfig())\ntransformers.Trainer(m, args).train()\nm.save_pretrained('o')",
        ["zero3-not-gathered"],
    ),
    "a tensor after the other, put into a dict": (
        "from safetensors import safe_open\nheld = {}\nwith safe_open('a/adapter_model.safetensors', 'pt') as f:\n    for k in f.keys():\n        held[k] = f.get_tensor(k)\nbase.load_state_dict(held, strict=False)",
        ["adapter-into-bare-base"],
    ),
    "accelerate's own torch.save": (
        "from accelerate import Accelerator\nm = torch.compile(get_peft_model(base, LoraConfig()))\nAccelerator().save(m.state_dict(), 'x.pt')",
        ["compiled-state-saved"],
    ),
    "a Trainer that a class of the file is derived from": (
        "class T(transformers.Trainer):\n    def log(self, *a):\n        print(a)\nT(PeftModel.from_pretrained(base, 'a'), train_dataset=[]).train()",
        ["frozen-adapter-trained"],
    ),
    "a text with a place for a number": (
        "torch.load('out/checkpoint-%d/adapter_model.bin' % sys.argv[1])",
        ["adapter-unpickled"],
    ),
    "a text that is formatted": (
        "torch.load('out/checkpoint-{}/adapter_model.bin'.format(sys.argv[1]))",
        ["adapter-unpickled"],
    ),
    "a part of a larger checkpoint": (
        "m = get_peft_model(base, LoraConfig())\nm.load_state_dict(torch.load(sys.argv[1], weights_only=True)['model'], strict=False)",
        ["load-result-unread"],
    ),
}
NOT_FOLLOWED = {
    "a loop that begins with a fresh base": "for name in sys.argv:\n    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained('b'), name)",
    "a derived Trainer with a training of its own": (
        "class T(transformers.Trainer):\n    def train(self):\n        print(1)\nT(PeftModel.from_pretrained(base, 'a')).train()"
    ),
    "a text whose end is filled in": "torch.load('out/adapter_model.%s' % sys.argv[1])\ntorch.load('adapter_model.{}'.format(sys.argv[1]))",
    "a loop of one round": "model = base\nfor name in ['a']:\n    model = PeftModel.from_pretrained(model, name)",
    "a loop that merges": "model = base\nfor name in sys.argv:\n    model = PeftModel.from_pretrained(model, name).merge_and_unload()",
    "a loop that is left in its first round": "model = base\nfor name in sys.argv:\n    model = PeftModel.from_pretrained(model, name)\n    break",
    "a loop that tries again": "model = base\nfor _ in range(3):\n    try:\n        model = PeftModel.from_pretrained(model, 'a')\n        break\n    except OSError:\n        print('again')",
    "two arms in two rounds": "m = get_peft_model(base, LoraConfig())\nfor last in sys.argv:\n    if last:\n        plain = m.merge_and_unload()\n    else:\n        m.save_pretrained('o')",
    "a class attribute that a method binds again": (
        "class C:\n    FILE = 'x/adapter_model.bin'\n    def __init__(self, file):\n        self.FILE = file\n    def go(self):\n        base.load_state_dict(torch.load(self.FILE, weights_only=True))"
    ),
    "a field of a dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass C:\n    file: str = 'x/adapter_model.bin'\nbase.load_state_dict(torch.load(C(sys.argv[1]).file, weights_only=True))"
    ),
    "the outcome of loading under a name of its own": (
        "m = get_peft_model(base, LoraConfig())\nout = peft.set_peft_model_state_dict(m, torch.load(sys.argv[1]))\nget_peft_model(out, LoraConfig())"
    ),
    "tensors under other names": (
        "from safetensors import safe_open\nheld = {}\nwith safe_open('a/adapter_model.safetensors', 'pt') as f:\n    for k in f.keys():\n        held[k[17:]] = f.get_tensor(k)\nbase.load_state_dict(held, strict=False)"
    ),
    "tensors beside others": (
        "from safetensors import safe_open\nheld = {'x': 1}\nwith safe_open('a/adapter_model.safetensors', 'pt') as f:\n    for k in f.keys():\n        held[k] = f.get_tensor(k)\nbase.load_state_dict(held, strict=False)"
    ),
}


@pytest.mark.parametrize(("body", "rules"), FOLLOWED.values(), ids=list(FOLLOWED))
def test_a_value_is_followed_through(body, rules):
    assert fires(f"{body}\n") == rules


@pytest.mark.parametrize("body", NOT_FOLLOWED.values(), ids=list(NOT_FOLLOWED))
def test_nothing_is_said_about(body):
    assert fires(f"{body}\n") == []
