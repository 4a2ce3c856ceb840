"""CT as a detector gives it: raw counts with their flat and dark fields."""
