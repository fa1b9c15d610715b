"""Where the model looks and what the data holds."""
