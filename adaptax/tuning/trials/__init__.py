"""Trials: training runs as pure functions."""
