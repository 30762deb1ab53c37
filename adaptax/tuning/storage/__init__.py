"""Files that last: checkpoints, results and what they belong to."""
