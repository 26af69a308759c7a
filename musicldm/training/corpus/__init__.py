"""A corpus of short clips composed by rule and rendered with a free soundfont: see README.md beside this file."""
