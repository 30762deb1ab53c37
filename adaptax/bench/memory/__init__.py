"""The memory of optimizer states, and the accuracy that smaller states reach."""
