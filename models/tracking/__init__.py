"""The association: detections frame by frame in, tracks out. numpy and scipy only."""
