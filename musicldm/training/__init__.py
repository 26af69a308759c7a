"""Training: from a folder of music to a checkpoint that the pipeline loads."""

__all__: list[str] = []
