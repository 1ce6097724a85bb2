"""Modules whose weight is computed of others: weight norm and spectral norm, `torch.nn.utils.parametrizations`."""

from __future__ import annotations

from dataclasses import replace

from adapterfit.records import Module, ModuleTree

#: What follows a module's name in that of the module which holds what its weight is computed of.
_HOLDER = ".parametrizations.weight"


def by_name(tree: ModuleTree) -> dict[str, Module]:
    """The modules by name; one whose weight is computed has it all the same.

    Both parametrizations in use, `_WeightNorm` and `_SpectralNorm` of torch 2.13, keep a tensor of the weight's own shape.
    """
    modules = {module.name: module for module in tree.modules}
    for held in tree.modules:
        if held.name.endswith(_HOLDER):
            module = modules.get(held.name[: -len(_HOLDER)])
            shape = held.params.get("original1", held.params.get("original"))
            if module is not None and shape is not None and "weight" not in module.params:
                modules[module.name] = replace(module, params={"weight": shape, **module.params})
    return modules


def is_computed(module: Module) -> bool:
    """Whether torch made its class for a parametrization."""
    return module.class_name.startswith("Parametrized")
