"""Prompt files -> folders of clips that know how they were made, and a page to hear them on.

The command is `command`, over `rows`, `folder`, `record`, `shards`, `run`, `making`; the page is `report`.
"""
