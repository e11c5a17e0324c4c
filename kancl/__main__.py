"""``python -m kancl`` is ``kancl``."""

import sys

from kancl.cli import main

if __name__ == "__main__":
    sys.exit(main())
