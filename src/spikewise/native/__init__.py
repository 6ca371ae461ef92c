"""The C library: its sources, how they are compiled, and how they are loaded."""
