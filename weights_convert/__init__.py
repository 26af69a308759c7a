"""Weights between layouts, by declarative tables: nothing is guessed, nothing is dropped without a reason."""
