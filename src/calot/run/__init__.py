"""From an experiment to a run's folder."""
