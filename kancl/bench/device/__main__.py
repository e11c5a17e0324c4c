"""``python -m kancl.bench.device``, which needs no Avalanche."""

from kancl.bench.device import main

raise SystemExit(main())
