"""`python -m tests.streams.deliveries.drill`: see `run`."""

import sys

from tests.streams.deliveries.drill.run import main

if __name__ == "__main__":
    sys.exit(main())
