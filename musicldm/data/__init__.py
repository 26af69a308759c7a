"""From a folder of music to clips: manifests, beats, levels, cuts, mixup."""
