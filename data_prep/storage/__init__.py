"""How files are read, written and remembered, whatever is in them."""
