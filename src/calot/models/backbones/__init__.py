"""Encoders of video: one file a family."""
