"""What everything stands on: paths, files, devices, memory, provenance."""
