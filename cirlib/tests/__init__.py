"""One file of promises for each file of the package."""
