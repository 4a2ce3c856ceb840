"""How files are read, written and indexed, whatever is in them."""
