"""`python -m benchmarks.search`; what other processes run is in a module that they can import."""

from benchmarks.search.running import main

if __name__ == "__main__":
    main()
