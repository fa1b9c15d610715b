"""Pretrainings, one value per file as experiments are: `calot pretrain` trains them."""
