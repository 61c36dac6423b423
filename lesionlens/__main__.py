"""`python -m lesionlens`."""

from lesionlens.cli import main

main()
