"""Stage 3 of 7: compare. The tensors of the file beside the slots PEFT would fill: a Diff."""
