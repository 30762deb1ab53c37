"""What the methods are made of; nothing here is public."""
