"""From tracks to answers: crossings of lines, visits of zones, walks on the ground, heat maps."""
