"""The memory of optimizer states, and what it costs in accuracy."""
