"""`python -m adapterfit`."""

from adapterfit.cli.main import main

if __name__ == "__main__":
    main()
