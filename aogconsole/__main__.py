"""`python -m aogconsole`, and the command's entry point."""

from aogconsole.cli.entry import main

if __name__ == "__main__":
    main()
