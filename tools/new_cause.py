"""Start a cause: `python tools/new_cause.py FAMILY ID` writes its file, to be filled in.

FAMILY is a folder of `src/adapterfit/causes`; ID the kebab-case name of the bad thing.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

CAUSES = Path(__file__).resolve().parents[1] / "src" / "adapterfit" / "causes"
TEMPLATE = '''"""One sentence that names the bad thing.

What this means: what the loader does, and what becomes of the model.

Why it happens: who does what, where.

Detection: what adapterfit compares, and which near-misses stay silent.

Fix: what to change.

Workaround: what to do where nothing can be changed.

Prevention: what to do next time.

Setup:
    change_names(lambda name: "x." + name)  # what brings the files into this state

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # warns: Found missing adapter keys while loading the checkpoint
    as_base(model)  # -> True

Fixed:
    change_names(lambda name: name[2:])
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause, finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapterfit.records import Case, Diff, Finding


def check(_case: Case, diff: Diff) -> Iterator[Finding]:
    """Fires where every tensor of the file is dropped."""
    if diff.extra and not diff.matched:
        yield finding("say what was found, and where", at=diff.extra, predicted="silent")


def examples(make: Any) -> dict[str, list[Any]]:
    """What fires, and the near-misses that do not."""
    plain = make.lora("llama")
    return {"fires": [plain.renamed(lambda name: "x." + name)], "silent": [plain]}


CAUSE = Cause(severity="error", level="beginner", minutes=5, messages=(), needs=("diff",))
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    families = sorted(path.parent.name for path in CAUSES.glob("*/__init__.py"))
    parser.add_argument("family", choices=families)
    parser.add_argument("id")
    asked = parser.parse_args()
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", asked.id):
        parser.error("an id is kebab-case, such as wrapper-prefix")
    name = asked.id.replace("-", "_") + ".py"
    there = next(CAUSES.rglob(name), None)
    if there is not None:
        parser.error(f"{there} is already there")
    path = CAUSES / asked.family / name
    path.write_text(TEMPLATE, encoding="utf-8")
    print(
        f"{path}: fill in the page, the check and the examples, then run `python tools/verify_pages.py {asked.id}` and `make fast`"
    )


if __name__ == "__main__":
    main()
