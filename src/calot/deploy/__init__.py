"""A finished run at work: whole operations in, timelines and stills out."""
