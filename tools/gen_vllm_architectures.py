"""Make `consumers/vllm_architectures.json` from a static scan of vLLM's models: the architectures that take a LoRA.

The scan is a JSON file, architecture → class attributes as they stand in the source (`supports_lora`,
`packed_modules_mapping`, `embedding_modules`, `is_3d_moe_weight`, `hf_to_vllm_mapper`). Attributes that are set at run time
do not show in it; where a mapper is an expression, `certain` is false and paths that do not match prove nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parents[1] / "src" / "adapterfit" / "consumers" / "vllm_architectures.json"


def entry(found: dict[str, Any]) -> dict[str, Any] | None:
    """What the rule needs of one architecture; None for one without LoRA support."""
    if not found["supports_lora"]:
        return None
    packed, embeddings, mapper = (
        found.get(key) for key in ("packed_modules_mapping", "embedding_modules", "hf_to_vllm_mapper")
    )
    literal = isinstance(packed, dict) and (embeddings is None or isinstance(embeddings, dict))
    plain = mapper in (None, "None") or isinstance(mapper, dict) or "(" not in mapper
    leaves = {name for key, parts in packed.items() for name in (key, *parts)} if isinstance(packed, dict) else set()
    return {
        "leaves": sorted(leaf.rpartition(".")[2] for leaf in leaves),
        "embeddings": sorted(embeddings) if isinstance(embeddings, dict) else [],
        "fused": bool(found.get("is_3d_moe_weight")),
        "prefixes": mapper.get("orig_to_new_prefix", {}) if isinstance(mapper, dict) else {},
        "certain": bool(literal and plain),
    }


def main() -> int:
    """Read the scan named on the command line, write the table."""
    scan = json.loads(Path(sys.argv[1]).read_text("utf-8"))["architectures"]
    rows = [f" {json.dumps(name)}: {json.dumps(entry(found))}" for name, found in sorted(scan.items())]
    OUT.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
    print(f"{len(rows)} architectures, {sum(found['supports_lora'] for found in scan.values())} with LoRA")
    return 0


if __name__ == "__main__":
    sys.exit(main())
