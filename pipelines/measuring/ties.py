"""When two phases count as equal."""

TIE = 1e-12  # of the margin; scores are float64 sums: equal ones differ by 1e-15, distinct ones by 2e-7 or more
