"""MusicLDM: text to music by latent diffusion, from scratch in PyTorch."""
