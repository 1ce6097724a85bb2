"""Ollama does not take the adapter as it was given.

What this means: `ADAPTER` in a Modelfile takes a GGUF file, or a folder with adapter_config.json and safetensors of a Llama or Gemma 2
adapter. Anything else fails with a short line that does not say which.

Why it happens: the safetensors file was named instead of its folder, the architecture is none of the two, or FROM names a base of
another architecture.

Detection: Ollama's own lines: unsupported content type, unsupported architecture, invalid file magic, no Modelfile or
safetensors files found.

Fix: convert with llama.cpp's `convert_lora_to_gguf.py FOLDER --base BASE`, and name the GGUF file in ADAPTER.

Workaround: merge the adapter, convert the merged model, and use it in FROM.

Prevention: keep a GGUF copy of adapters that Ollama is to load.

Not run: it needs an Ollama server, and an adapter of one of the two architectures it converts.

Broken:
    Path("Modelfile").write_text("FROM llama3.1:8b" + os.linesep + "ADAPTER ./adapter/adapter_model.safetensors")  # a file
    subprocess.run(["ollama", "create", "mine"], check=True)

Fixed:
    subprocess.run([sys.executable, "llama.cpp/convert_lora_to_gguf.py", "adapter", "--outfile", "mine.gguf"], check=True)
    Path("Modelfile").write_text("FROM llama3.1:8b" + os.linesep + "ADAPTER ./mine.gguf")
    subprocess.run(["ollama", "create", "mine"], check=True)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import said, suspect
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=10,
    messages=(
        "Error: unsupported content type: unknown",
        "Error: unsupported architecture",
        "Error: invalid file magic",
        "Error: no Modelfile or safetensors files found",
    ),
)
#: Ollama's words → how sure they are by themselves, and what they mean.
_WORDS = (
    (
        "unsupported content type",
        0.9,
        "ADAPTER names something that is neither a GGUF file nor a folder of safetensors",
    ),
    ("no modelfile or safetensors files found", 0.93, "ADAPTER names a folder without what it needs"),
    ("invalid file magic", 0.85, "the file is not GGUF"),
    ("error: unsupported architecture", 0.88, "Ollama converts Llama and Gemma 2 adapters only"),
    ("unsupported architecture", 0.7, "Ollama converts Llama and Gemma 2 adapters only"),
    ("open adapter_config.json:", 0.85, "ADAPTER names the weights, and the config is looked for beside it"),
    ("only one adapter is currently supported", 0.92, "Ollama takes one adapter"),
    ("cannot unmarshal number", 0.85, "lora_alpha is not a whole number"),
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "ollama", "modelfile",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: Ollama's own lines."""
    model = said(symptoms, 'unsupported architecture "', most=1)
    if model and not said(symptoms, "adapter", "lora", most=1):
        yield suspect(
            symptoms, "Ollama names the architecture in quotes where it converts a model; an adapter's is not named", 0.3, model,
            fix="convert the model to GGUF with llama.cpp's convert_hf_to_gguf.py", apart="whether the Modelfile has a line ADAPTER",
        )  # fmt: skip
        return
    for phrase, likelihood, meaning in _WORDS:
        told = said(symptoms, phrase)
        if told:
            yield suspect(
                symptoms, meaning, likelihood, told,
                fix="python convert_lora_to_gguf.py FOLDER --base BASE, then ADAPTER ./adapter.gguf in the Modelfile",
            )  # fmt: skip
            return
    created = said(
        symptoms, "ollama create", "transferring model data", "converting adapter", "ollama/llama_server", "modelfile", "llama runner process"
    )  # fmt: skip
    created += tuple(number for number, line in enumerate(symptoms.lines) if line.lstrip().startswith("ADAPTER "))
    if created and said(symptoms, "error"):
        yield suspect(
            symptoms,
            "Ollama stops while it takes the adapter in",
            0.7,
            created,
            fix="convert the adapter to GGUF with llama.cpp, and name that file in ADAPTER",
        )


def logs() -> dict[str, list[str]]:
    """Ollama's lines; a converter's."""
    return {
        "fires": [
            "converting model\nError: unsupported architecture",
            "Error: invalid file magic",
            "Error: unsupported content type: text/plain; charset=utf-8",
        ],
        "silent": ["ERROR:lora-to-gguf:Unexpected name 'x': Not a lora_A or lora_B tensor"],
    }
