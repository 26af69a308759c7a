"""Evaluation that says what it measured: features of clips, and metrics as functions of arrays."""

__all__: list[str] = []
