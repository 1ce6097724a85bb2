"""The same adapter in another program's layout, or for another library version: one file per format in `formats/`."""
