"""How runs are trained: programs, plans, populations and sessions."""
