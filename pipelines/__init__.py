"""Movement of data: videos to tracks, streams to answers, images to weights."""
