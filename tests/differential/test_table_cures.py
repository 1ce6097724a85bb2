"""Every line that the table of `--for all` prints as a cure, run as it stands, for the seven adapters as real PEFT saves them."""

import shlex

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

import transformers  # noqa: E402

import adapterfit  # noqa: E402
from adapterfit.cli.main import run as command  # noqa: E402
from engine_rows import ADAPTERS  # noqa: E402

pytestmark = [pytest.mark.exact, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SIZES = {
    "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2,
    "vocab_size": 128, "pad_token_id": 0, "tie_word_embeddings": False, "head_dim": 16,
}  # fmt: skip


def save(name, folder):
    """An adapter of that kind and its base."""
    fused = name == "experts"
    more = {"num_local_experts": 4, "num_experts_per_tok": 2} if fused else {}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model("mixtral" if fused else "llama", **SIZES, **more)
    base = transformers.AutoModelForCausalLM.from_config(config)
    if name == "vocabulary":
        base.resize_token_embeddings(140, mean_resizing=False)
    base.save_pretrained(folder / "base")
    fields = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "v_proj"],
        "task_type": "CAUSAL_LM",
        **ADAPTERS[name],
    }
    wrapped = peft.get_peft_model(base, peft.LoraConfig(init_lora_weights=False, **fields))
    wrapped.save_pretrained(folder / "adapter")


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_cure_of_the_table_is_carried_out(name, tmp_path, monkeypatch):
    save(name, tmp_path)
    monkeypatch.chdir(tmp_path)
    found = adapterfit.check("adapter", base="base", consumer="all").consumers
    runs = {answer.run: answer.name for answer in found if answer.run.startswith("adapterfit ")}
    assert runs
    for run, engine in runs.items():
        assert command(shlex.split(run)[1:]) == 0, (engine, run)
