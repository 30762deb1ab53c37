"""Building blocks of the methods; nothing here is public."""
