"""A package, since Avalanche installs one called ``tests`` that would be found first."""
