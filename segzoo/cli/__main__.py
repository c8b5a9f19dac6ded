"""The command line as `python -m segzoo.cli`, the same as `python -m segzoo`."""

from segzoo.cli import main

if __name__ == "__main__":
    main()
