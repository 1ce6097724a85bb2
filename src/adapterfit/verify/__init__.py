"""Stage 7 of 7: verify. What was written beside what was read, by other means than those that wrote it."""
