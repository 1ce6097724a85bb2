"""Stage 1 of 7: read. Bytes become a Case. Opens files, never writes, never imports by a name found in the input."""
