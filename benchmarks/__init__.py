"""What measures speed, memory and exactness."""
