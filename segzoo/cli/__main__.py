"""The command line as `python -m segzoo.cli`, the same as `python -m segzoo`."""

from segzoo.cli import main
from segzoo.files import name_files_in_utf8

if __name__ == "__main__":
    name_files_in_utf8()
    main()
