"""One training loop, and what it needs: optimiser, callbacks, resume, devices, processes. Knows no distillation."""
