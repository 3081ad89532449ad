"""`python -m bivouac` is the `bivouac` command."""

from bivouac.main import main

if __name__ == "__main__":
    main()
