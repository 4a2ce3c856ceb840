"""``python -m benchmarks.claims``."""

from benchmarks.claims import main

if __name__ == "__main__":
    raise SystemExit(main())
