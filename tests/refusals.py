"""What a function gives, or the words with which it refuses."""


def or_refusal(ask, *given):
    """Return what `ask` returns, or the message of its `ValueError`."""
    try:
        return ask(*given)
    except ValueError as refusal:
        return str(refusal)
