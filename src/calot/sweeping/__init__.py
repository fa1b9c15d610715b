"""Many runs, each in a process of its own: planned, started here or on a cluster, resumed, skipped, searched."""
