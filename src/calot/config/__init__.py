"""Values: to JSON and back, and `key=value` overrides."""
