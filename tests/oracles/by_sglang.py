"""An adapter as SGLang's own code reads it."""

import engine_code

engine_code.use(
    "sglang",
    "sglang.srt.lora.lora_config",
    "sglang.srt.lora.lora",
    "sglang.srt.lora.utils",
    "sglang.srt.layers.utils.common",
)

import safetensors.torch  # noqa: E402
import sglang.srt.layers.utils as layer_utils  # noqa: E402
import transformers  # noqa: E402
from sglang.srt.layers.utils.common import get_layer_id  # noqa: E402

layer_utils.get_layer_id = get_layer_id

from sglang.srt.lora.lora import LoRAAdapter  # noqa: E402
from sglang.srt.lora.lora_config import LoRAConfig  # noqa: E402
from sglang.srt.lora.utils import get_normalized_target_modules, get_target_module_name  # noqa: E402

VERSION = engine_code.version("sglang")


def loaded(folder, base):
    """Its adapter, with `scaling` and `layers`, each with `weights` by name; or the error it raises."""
    try:
        config = LoRAConfig(str(folder))
        adapter = LoRAAdapter("x", config, transformers.AutoConfig.from_pretrained(base), None, None)
        adapter.initialize_weights_from_tensors(safetensors.torch.load_file(folder / "adapter_model.safetensors"))
    except (KeyError, RuntimeError, AssertionError, IndexError) as error:
        return error
    return adapter


def kept(adapter):
    """The weights that its memory pool takes: those whose name holds one of the targets; it passes over the others."""
    targets = get_normalized_target_modules(adapter.config.target_modules)
    return [tensor for layer in adapter.layers for name, tensor in layer.weights.items() if _is_target(name, targets)]


def _is_target(name, targets):
    try:
        return bool(get_target_module_name(name, targets))
    except ValueError:
        return False
