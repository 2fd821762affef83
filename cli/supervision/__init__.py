"""Running all parts on one machine: start in order, keep running, stop in order."""
