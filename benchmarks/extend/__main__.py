"""`python -m benchmarks.extend`; what other processes run is in a module that they can import."""

from benchmarks.command import run_command
from benchmarks.extend.running import main

if __name__ == "__main__":
    run_command(main)
