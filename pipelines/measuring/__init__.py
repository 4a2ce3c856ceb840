"""How networks are measured, whatever they do: rows, devices, and evaluations that can be resumed."""
