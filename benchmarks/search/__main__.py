"""`python -m benchmarks.search`; what other processes run is in a module that they can import."""

from benchmarks.command import run_command
from benchmarks.search.running import main

if __name__ == "__main__":
    run_command(main)
