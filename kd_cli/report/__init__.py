"""Results -> tables, JSON, CSV and plots. The only wing that prints results."""
