"""Results -> Rich tables, JSON, CSV, plots. The only wing that prints results."""
