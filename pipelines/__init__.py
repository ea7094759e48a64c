"""What moves: videos to tracks, streams to answers, images to weights."""
