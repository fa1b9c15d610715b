"""`python -m calot` is `calot`."""

from calot.cli.main import main

if __name__ == "__main__":
    main()
