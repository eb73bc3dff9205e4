"""Distillation: the methods, their losses, and the outputs of teachers that a student is trained with."""
