"""A corpus of short clips, composed by rule, rendered with a free soundfont: see README.md beside this."""
