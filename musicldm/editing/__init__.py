"""Music in, music out: short functions over `sampling.iterate`. See README.md in this folder."""
