"""Box head: class and exact box of each proposal."""
