"""The command line: one module per sub-command, each of them callable as a function."""
