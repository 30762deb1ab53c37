"""Training of runs: programs, plans, populations and runs of tools."""
