"""One contender a module, each run as a process of its own: `python -m bench.contenders.<name>`."""
