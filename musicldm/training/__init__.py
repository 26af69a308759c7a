"""Training: what makes the networks' weights. The networks never learn that it exists."""
