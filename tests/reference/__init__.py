"""What other libraries do, as traces, and what several NumPy loops are made of.

The loop of a method itself stands in its own test file.
"""
