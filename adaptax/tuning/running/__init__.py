"""How runs are trained: programs, plans, populations and runs of tools."""
