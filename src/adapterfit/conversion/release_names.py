"""Names of modules that depend on transformers, not on PEFT: a conversion for another PEFT leaves them, and says so."""

from __future__ import annotations

import re
from collections.abc import Iterator

from adapterfit.consumers import model_types
from adapterfit.conversion.opened import Opened
from adapterfit.conversion.release_fields import modules_of
from adapterfit.expect.history import as_built, steps_of
from adapterfit.expect.versions import below
from adapterfit.records import ModuleTree
from adapterfit.text import quote, shorten, show

#: Parts of names that changed: of vision-language models in 4.52, of experts and their routers in 5.0.
_MOVED = re.compile(r"\.(?:language_model|visual|vision_tower|vision_model|experts|block_sparse_moe)\.")
_ASK = "adapterfit check --for peft==…,transformers==… tells."


def other_names(opened: Opened) -> Iterator[str]:
    """One sentence where transformers has had, or has, other names for the adapted modules."""
    tree = opened.tree()
    if tree is None or not opened.class_known():
        if any(_MOVED.search(name) for name in opened.tensors()):
            yield f"Not converted: names of modules that transformers changed in 4.52 and 5.0. {_ASK}"
        return
    config = opened.adapter.config
    if config is not None and config.values.get("layer_replication"):
        return  # layers that no base has
    wanted = {name.replace(".base_layer", "") for name in modules_of(opened)}
    for release, built in _trees(tree):
        lacks = sorted(wanted - {each.name for each in built.modules} - set(built.aliases))
        if lacks:
            whose = f"a {show(tree.class_name)} of transformers {release} has no {shorten(map(quote, lacks))}"
            yield f"Not converted: names of modules, which depend on transformers; {whose}. {_ASK}"
            return


def _trees(tree: ModuleTree) -> Iterator[tuple[str, ModuleTree]]:
    """The base as the newest transformers builds it, and as the last release before each change of its names does."""
    releases = model_types.releases()
    yield releases[-1], tree
    for border in steps_of(tree):
        before = [each for each in releases if below(each, border)]
        if before:
            yield before[-1], as_built(tree, {"transformers": before[-1], "peft": "0.18.1"})
