"""The ground floor: files, caches, tables, processes, pictures."""
