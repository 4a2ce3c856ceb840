"""``python -m benchmarks.measured``."""

from benchmarks.measured import main

if __name__ == "__main__":
    raise SystemExit(main())
