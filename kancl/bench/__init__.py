"""How fast kancl is on this machine: ``kancl bench NAME``, a module each."""
