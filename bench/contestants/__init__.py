"""What competes: each engine in a process of its own, which answers on standard output."""
