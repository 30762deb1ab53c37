"""What is trained: runs as pure functions."""
