"""The Endoscapes2023 data set: archive and folder."""
