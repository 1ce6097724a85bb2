"""Axis: PEFT methods, one file each; the file name is the `peft_type` in lower case."""
