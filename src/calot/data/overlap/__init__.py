"""Which operations two data sets share: by published maps, by ids that cannot collide, and by their pictures."""
