"""Prompt files -> folders of clips that know how they were made; and a page to hear them on.

`rows` reads prompt files, `seeds` names each row's noise, `making` turns rows of equal settings into clips,
`folder` keeps them, `record` says whose folder it is, `shards` divides the work, `run` is the loop over it
all, `command` the terminal's side of it. `report`, `page` and `picture` make the page.
"""
