"""State of live streams: trackers, sessions, snapshots."""
