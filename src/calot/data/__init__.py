"""Data: folders of frames to batches."""
