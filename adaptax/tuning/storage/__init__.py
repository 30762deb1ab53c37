"""Files: checkpoints, results and digests."""
