"""Stage 5 of 7: plan. A Report's cures become one ordered, conflict-free list of edits."""
