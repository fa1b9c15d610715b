"""What a run's receipt and the ledger say, read back; never imports torch."""
