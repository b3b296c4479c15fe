"""The command line, one file for what trains, what measures and what restores."""
