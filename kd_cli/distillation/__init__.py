"""Distillation: the methods, their losses, and the teacher outputs that a student learns from."""
