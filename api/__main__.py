"""The `ropewalk` program, also `python -m api`: Ctrl-C ends it in order even while the command line is imported."""

import sys


def main() -> None:
    """Run the command of the arguments, and exit with its code."""
    try:
        from api.cli import main as run_command  # takes a second: time enough for Ctrl-C
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    run_command()


if __name__ == "__main__":
    main()
