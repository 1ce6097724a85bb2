"""Every fix that lint offers, carried out and run with real PEFT: as a script, and as a notebook in IPython's own shell.

    python tests/lint/mended_code.py FOLDER

All of them run in this one process, each in a folder of its own beside tiny models. Prints a JSON object: snippet → how →
what it raised or warned (empty where all is well), or why it was not run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import re
import shutil
import sys
import traceback
import warnings
from pathlib import Path

from adapterfit.lint import engine, files
from adapterfit.lint.rule import all_rules

#: What a notebook of today begins with.
MAGICS = "%load_ext autoreload\n%autoreload 0\n!true\n"
NOT_RUN = "not run: "


def mendable():
    """Every snippet with a fix: `rule number` → (rule, snippet)."""
    return {
        f"{entry.id} {at + 1}": (entry.id, snippet)
        for entry in all_rules().values()
        for at, snippet in enumerate(entry.module.FIRES)
        if snippet.fixed
    }


# ------------------------------------------------------------------------------------------------ tiny models


def make(folder):
    """`base` and `adapter` (LoRA on a Llama, in both containers), `t5` and `summary`, and a Hub's cache that holds them too."""
    import peft
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    llama = LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=32, pad_token_id=0,
    )  # fmt: skip
    t5 = T5Config(d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, vocab_size=32, decoder_start_token_id=0)
    kinds = (
        (LlamaForCausalLM(llama), "base", "adapter", {"target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}),
        (T5ForConditionalGeneration(t5), "t5", "summary", {"target_modules": ["q"], "task_type": "SEQ_2_SEQ_LM"}),
    )
    for base, name, adapter, config in kinds:
        base.save_pretrained(folder / name)
        model = peft.get_peft_model(base, peft.LoraConfig(r=4, init_lora_weights=False, **config))
        model.peft_config["default"].base_model_name_or_path = name
        model.save_pretrained(folder / adapter)
        torch.save(peft.get_peft_model_state_dict(model), folder / adapter / "adapter_model.bin")
    _tokenizer(folder / "base")
    _cached(folder, "org/base", folder / "base", re.findall(r"[0-9a-f]{40}", _stamps())[0])
    _cached(folder, "someone/lora", folder / "adapter", "f" * 40)


def _tokenizer(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(
        models.WordLevel({word: at for at, word in enumerate(["<pad>", "</s>", "<unk>", *"abcd"])}, "<unk>")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(folder)


def _stamps():
    return str([snippet.files for _, snippet in mendable().values() if "adapterfit.json" in str(snippet.files)])


def _cached(folder, name, source, commit):
    place = folder / "hub" / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit, "utf-8")
    shutil.copytree(source, place / "snapshots" / commit)


def lay(world, folder, snippet):
    """A copy of the models, and what lies beside the snippet: an adapter's folder is a real one."""
    folder.mkdir()
    for name in ("base", "adapter", "t5", "summary"):
        shutil.copytree(world / name, folder / name, copy_function=os.link)
    for name, text in snippet.files.items():
        path = folder / name
        if name.endswith("adapter_config.json") and not path.exists():
            shutil.copytree(world / "adapter", path.parent, dirs_exist_ok=True)
        elif not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for name in snippet.files:
        if name.endswith(".bin"):
            shutil.copy(world / "adapter" / "adapter_model.bin", folder / name)


# ------------------------------------------------------------------------------------------------ running


def as_script(rule, snippet):
    """Run the mended code as Python does."""
    _, data = engine.lint(files.Source(Path("script.py"), snippet.code.encode()), {rule}, {"safe", "unsafe"})
    assert data.decode() == snippet.fixed
    exec(compile(data.decode() + snippet.then, "script.py", "exec"), {"__name__": "__main__"})


def as_notebook(rule, snippet):
    """Mend a notebook whose cells are the snippet's paragraphs, and run its cells one after the other."""
    from IPython.core.interactiveshell import InteractiveShell

    paragraphs = re.split(r"\n\n(?=\S)", snippet.code.strip("\n"))
    cells = [
        {
            "cell_type": "code",
            "execution_count": None,
            "metadata": {},
            "outputs": [],
            "source": text.splitlines(keepends=True),
        }
        for text in (MAGICS, *paragraphs)
    ]
    document = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    result, data = engine.lint(files.Source(Path("x.ipynb"), json.dumps(document).encode()), {rule}, {"safe", "unsafe"})
    assert result.fixed
    assert not result.unread
    shell = InteractiveShell()
    for cell in [*json.loads(data)["cells"], {"source": [snippet.then]}]:
        shell.run_cell("".join(cell["source"])).raise_error()


def outcome(run, rule, snippet, world, folder):
    """What a run raised, or what of PEFT's warnings says that something was missed; empty where there is neither."""
    if snippet.needs and importlib.util.find_spec(snippet.needs) is None:
        return f"{NOT_RUN}{snippet.needs} is not installed"
    if not snippet.runs:
        return f"{NOT_RUN}the snippet does not say how"
    lay(world, folder, snippet)
    os.chdir(folder)
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        try:
            run(rule, snippet)
        except BaseException:
            return traceback.format_exc(limit=-3)
    missed = [str(each.message) for each in caught if "Found missing adapter keys" in str(each.message)]
    return "\n".join(missed)


def main():
    folder = Path(sys.argv[1])
    world = folder / "world"
    world.mkdir()
    os.environ.update(
        HF_HUB_CACHE=str(world / "hub"), HF_HUB_OFFLINE="1", TQDM_DISABLE="1", IPYTHONDIR=str(folder / "ipython")
    )
    kept, sys.stdout = sys.stdout, sys.stderr
    warnings.simplefilter("ignore")
    make(world)
    found = {}
    for at, (name, (rule, snippet)) in enumerate(mendable().items()):
        found[name] = {
            how: outcome(run, rule, snippet, world, folder / f"{at}-{how}")
            for how, run in (("script", as_script), ("notebook", as_notebook))
        }
    kept.write(json.dumps(found))


if __name__ == "__main__":
    main()
