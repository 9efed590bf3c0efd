"""`python -m langchain_internvl`: the command `langchain-internvl`."""

from langchain_internvl.cli import main

main()
