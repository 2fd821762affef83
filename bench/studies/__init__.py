"""One question a module; each returns its figures as an object for `results/latest.json`."""
