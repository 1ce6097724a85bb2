"""The least that any tool must do: parse every JSON file and every safetensors header of two folders."""

import json
import sys
from pathlib import Path

found = {}
for folder in sys.argv[1:]:
    for path in sorted(Path(folder).iterdir()):
        with path.open("rb") as file:
            if path.suffix == ".safetensors":
                found[path] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            elif path.suffix == ".json":
                found[path] = json.load(file)
print(sum(map(len, found.values())))
