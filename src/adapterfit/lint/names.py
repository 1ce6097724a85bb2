"""Names of libraries as rules spell them, whichever way the code imports them."""

from __future__ import annotations

from adapterfit.lint.values import Named, Text, Value

#: Libraries whose names are unique without the modules between: `peft.tuners.lora.LoraConfig` is `peft.LoraConfig`.
_FLAT = frozenset({"peft", "transformers", "trl", "accelerate", "diffusers", "safetensors", "unsloth"})
#: Names of other libraries that are found in several places.
_PLACES = {
    "torch.serialization.load": "torch.load",
    "torch.serialization.save": "torch.save",
    "torch.nn.parallel.DistributedDataParallel": "torch.DistributedDataParallel",
    "torch.nn.parallel.distributed.DistributedDataParallel": "torch.DistributedDataParallel",
    "torch.nn.DataParallel": "torch.DataParallel",
    "torch.nn.parallel.DataParallel": "torch.DataParallel",
    "torch.nn.parallel.data_parallel.DataParallel": "torch.DataParallel",
    "torch.distributed.fsdp.FullyShardedDataParallel": "torch.FullyShardedDataParallel",
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel": "torch.FullyShardedDataParallel",
    "deepspeed.zero.GatheredParameters": "deepspeed.GatheredParameters",
    "deepspeed.runtime.zero.partition_parameters.GatheredParameters": "deepspeed.GatheredParameters",
}
#: Constants of libraries that name a file.
_CONSTANTS = {
    "peft.WEIGHTS_NAME": "adapter_model.bin",
    "peft.SAFETENSORS_WEIGHTS_NAME": "adapter_model.safetensors",
    "transformers.ADAPTER_WEIGHTS_NAME": "adapter_model.bin",
    "transformers.ADAPTER_SAFE_WEIGHTS_NAME": "adapter_model.safetensors",
}


def canonical(dotted: str) -> str:
    """The one name of something imported."""
    root, *rest = dotted.split(".")
    if root not in _FLAT or len(rest) < 2:
        return _PLACES.get(dotted, dotted)
    start = next((at for at, part in enumerate(rest) if part[:1].isupper()), len(rest) - 1)
    return ".".join([root, *rest[start:]])


def imported(dotted: str) -> Value:
    """What an imported name stands for."""
    name = canonical(dotted)
    constant = _CONSTANTS.get(name)
    return Text(constant, constant) if constant else Named(name)
