"""Stage 4 of 7: diagnose. Runs the causes, keeps the few that explain the most, gives the verdict: a Report."""
