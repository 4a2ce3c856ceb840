"""``python -m benchmarks.fuzz``."""

from benchmarks.fuzz import main

if __name__ == "__main__":
    raise SystemExit(main())
