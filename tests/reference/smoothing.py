"""Metrics, as controllers average them: in windows, or with weights that decay."""


def means_over(window, metrics):
    """Return the mean of each full window at its last metric, else None."""
    waiting = []
    for metric in metrics:
        waiting.append(metric)
        full = len(waiting) == window
        yield sum(waiting) / window if full else None
        waiting = [] if full else waiting


def averages(metrics, decay):
    """Return the exponential average without bias at each metric."""
    biased, weights = 0.0, 0.0
    for metric in metrics:
        biased = decay * biased + (1 - decay) * metric
        weights = decay * weights + (1 - decay)
        yield biased / weights
