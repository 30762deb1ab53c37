"""Training with nothing tuned, beside AdamW tuned for each task."""
