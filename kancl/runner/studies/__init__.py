"""Many runs: comparisons, sweeps, published protocols, tuning."""
