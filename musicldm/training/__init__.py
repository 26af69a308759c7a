"""Training: from a folder of music to a checkpoint that the pipeline loads. The networks never learn of it."""

__all__: list[str] = []
