"""Knowledge distillation, measured: a small student network learns from a larger teacher."""

__version__ = "0.1.0"
