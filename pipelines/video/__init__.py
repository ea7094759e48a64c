"""Videos and image folders: found, opened, split, decoded and drawn."""
