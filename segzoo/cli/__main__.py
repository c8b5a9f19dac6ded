"""The command line as `python -m segzoo.cli`, the same as `python -m segzoo`."""

from segzoo.__main__ import main

if __name__ == "__main__":
    main()
