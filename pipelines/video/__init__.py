"""Opening, splitting, decoding, drawing and encoding videos and image folders."""
